"""The location of a Redis or Valkey store: its URL, prefix and password."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from titan_sdk.config import Secret
from titan_sdk.errors import InvalidArgument

__all__ = ["Location"]

_MIN_LEASE = 0.2


@dataclass(frozen=True, slots=True)
class Location:
    """
    Raises:
        InvalidArgument: the URL or a value is invalid.
    """

    url: str
    """``redis://[user:password@]host:port/db``, ``rediss://`` for TLS, ``unix://path``; options of the client after ``?``."""
    prefix: str = "titan"
    """The beginning of every key: one master per prefix."""
    password: str | None = None
    """Overrides a password in the URL."""
    lease_seconds: float = 10.0
    """Seconds after a kill before the next master takes over."""
    accept_lost_commits: bool = False
    """Start even if the server has lost commits that it had acknowledged to the last master."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", Secret(self.url))
        if self.password is not None:
            object.__setattr__(self, "password", Secret(self.password))
        problem = _problem(str(self.url))
        if problem is not None:
            raise InvalidArgument(
                f"the store {self.shown} {problem}; write redis://host:6379/0, rediss:// for TLS, or "
                "unix:///path/to/socket"
            )
        if not self.prefix or any(character.isspace() for character in self.prefix):
            raise InvalidArgument(
                f"store prefix {self.prefix!r} is empty or has spaces; give a word, such as titan"
            )
        if not self.lease_seconds >= _MIN_LEASE:
            raise InvalidArgument(
                f"the store's lease of {self.lease_seconds} s is shorter than {_MIN_LEASE} s"
            )

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        parts = urlsplit(str(self.url))
        _, at, host = parts.netloc.rpartition("@")
        return f"{parts.scheme}://{'***@' if at else ''}{host}{parts.path}"


def _problem(url: str) -> str | None:
    """The problem of a URL that the client library would accept but misread, or ``None``."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return None if parts.path else "names no socket"
    if parts.scheme not in {"redis", "rediss"}:
        return "is no URL of a Redis"
    if not parts.hostname:
        return "names no host"
    try:
        parts.port  # noqa: B018 - it is read when it is asked for
    except ValueError:
        return "has a port that is none"
    database = parts.path.strip("/")
    if database and not (database.isascii() and database.isdigit()):
        return f"has {database!r} where the number of a database stands"
    return None
