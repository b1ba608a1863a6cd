"""The client's configuration: frozen values, and the environment variables that set them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from titan_sdk.errors import InvalidArgument
from titan_sdk.model.addresses import (
    check_port,
    is_loopback,
    parse_address,
    parse_host,
    parse_url,
    show_address,
)
from titan_sdk.model.durations import parse_duration

__all__ = [
    "DEFAULT_HOST",
    "DEFAULT_PORT",
    "TLS",
    "ClientConfig",
    "RetryPolicy",
    "Secret",
    "check_port",
    "check_token",
    "is_loopback",
    "parse_address",
    "parse_duration",
    "parse_host",
    "parse_url",
    "show_address",
]

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 9090
_TIMEOUT = 30.0

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is attempted in all.

    A failed connect is always attempted again. A request whose reply was lost is repeated if a copy of it changes nothing
    more. A bundled master recognizes copies, so a change is repeated there for up to 30 s, until its outcome is known.
    With one attempt nothing is repeated.
    """

    attempts: int = 3
    first_pause: float = 0.1
    """Seconds before the second attempt. They double for each further one."""

    def __post_init__(self) -> None:
        if not self.attempts >= 1 or not self.first_pause >= 0:
            raise InvalidArgument(f"{self!r}: attempts must be 1 or more and first_pause 0 or more")


class Secret(str):
    """Text that ``repr`` hides, so that logs and tracebacks do not show it by accident."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True, slots=True)
class TLS:
    """TLS and mutual TLS. The master's certificate is always verified.

    Verification cannot be turned off: give a self-signed certificate as ``ca_cert``, and the certificate's name as
    ``server_name`` if it differs from the host. Files are PEM and are read at every connect.
    """

    ca_cert: str | None = None
    """Trusted certificates; ``None``: those that the operating system trusts."""
    client_cert: str | None = None
    """The client's certificate with its chain, for a master that asks for one (mutual TLS)."""
    client_key: str | None = None
    """The certificate's private key, not encrypted; ``None``: it is in the ``client_cert`` file."""
    server_name: str | None = None
    """The name in the master's certificate; ``None``: the host."""

    def __post_init__(self) -> None:
        for name in ("ca_cert", "client_cert", "client_key"):
            value = getattr(self, name)
            if value is None:
                continue
            path = os.fspath(value)
            object.__setattr__(self, name, path)
            if "-----BEGIN" in path or "\n" in path:
                raise InvalidArgument(f"{name} is a PEM text; write it into a file and give the file's path")
            if not path:
                raise InvalidArgument(f"{name} is empty; give the path of a PEM file, or leave it out")
        if self.client_key is not None and self.client_cert is None:
            raise InvalidArgument(
                f"client_key {self.client_key!r} is given without client_cert; give the certificate as well"
            )


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """The address of a master, timeouts, retries and credentials."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    connect_timeout: float = 5.0
    """Seconds for a connect."""
    timeout: float = _TIMEOUT
    """Seconds without progress on an open connection. A real master itself never times out (section 1)."""
    worker_address: tuple[str, int] | None = None
    """Host and port at which *workers* reach the master, if the client uses another address (a tunnel,
    ``localhost``). ``None``: the client's address."""
    dashboard_url: str | None = None
    """Base URL of Titan's HTTP dashboard, such as ``http://titan:5000``."""
    keep_alive: bool = True
    """Whether to keep connections open if the master allows it, as the bundled one does. The client asks once, before
    the first request. ``False``: one connection per request, as Titan v1 does, and no question."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    tls: TLS | None = None
    """Encrypt, and verify the master. ``None``: everything travels in the clear, as in Titan v1."""
    auth_token: str | None = None
    """Sent to the master with HELLO, also over an unencrypted connection: use ``tls`` too beyond this machine."""
    socket_path: str | None = None
    """A Unix socket of a bundled master on this machine, used instead of host and port. A master with TLS or a token
    gives its jobs one (docs/security.md)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", parse_host(self.host, "host"))
        check_port(self.port, "port")
        if self.worker_address is not None:
            object.__setattr__(self, "worker_address", _worker_address(self.worker_address))
        if self.dashboard_url is not None:
            object.__setattr__(self, "dashboard_url", parse_url(self.dashboard_url, "dashboard_url"))
        for name in ("connect_timeout", "timeout"):
            object.__setattr__(self, name, parse_duration(getattr(self, name), name))
        if self.auth_token is not None:
            check_token(self.auth_token, "auth_token")
            object.__setattr__(self, "auth_token", Secret(self.auth_token))

    @property
    def address(self) -> str:
        """``host:port``, with brackets around an IPv6 host; ``unix:PATH`` for a Unix socket."""
        if self.socket_path is not None:
            return f"unix:{self.socket_path}"
        return show_address(self.host, self.port)

    @property
    def address_for_workers(self) -> tuple[str, int]:
        """The address that jobs connect to."""
        return self.worker_address or (self.host, self.port)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str], *, host: str | None = None, port: int | None = None
    ) -> ClientConfig:
        """The configuration from the environment; arguments win over it.

        The variables are ``TITAN_HOST``, ``TITAN_PORT``, ``TITAN_WORKER_ADDRESS``, ``TITAN_DASHBOARD_URL``,
        ``TITAN_TIMEOUT`` (seconds), ``TITAN_TLS``, ``TITAN_CA_CERT``, ``TITAN_CLIENT_CERT``, ``TITAN_CLIENT_KEY``,
        ``TITAN_TLS_SERVER_NAME`` and ``TITAN_AUTH_TOKEN``. A job also gets ``TITAN_SOCKET``, which is ignored if a host
        or port is given: that means another master.

        Raises:
            InvalidArgument: a variable has an invalid value; the sentence names it.
        """
        here = environ.get("TITAN_SOCKET") if host is None and port is None else None
        return cls(
            host=host if host is not None else _read(environ, "TITAN_HOST", parse_host, DEFAULT_HOST),
            port=port if port is not None else _read(environ, "TITAN_PORT", _port, DEFAULT_PORT),
            dashboard_url=_read(environ, "TITAN_DASHBOARD_URL", parse_url, None),
            timeout=_read(environ, "TITAN_TIMEOUT", parse_duration, _TIMEOUT),
            worker_address=_read(environ, "TITAN_WORKER_ADDRESS", parse_address, None),
            tls=None if here else _tls(environ),
            auth_token=environ.get("TITAN_AUTH_TOKEN", "").strip() or None,
            socket_path=here or None,
        )

    @classmethod
    def choose(
        cls, config: ClientConfig | None, host: str | None, port: int | None, environ: Mapping[str, str]
    ) -> ClientConfig:
        """The configuration of a client made with these arguments.

        Raises:
            InvalidArgument: a configuration was given together with a host or port.
        """
        if config is None:
            return cls.from_env(environ, host=host, port=port)
        if host is not None or port is not None:
            raise InvalidArgument("give host and port, or config, not both; config has them already")
        return config


def check_token(token: str, what: str) -> None:
    """Refuse a text that cannot be a token, without showing it.

    Raises:
        InvalidArgument: it is empty, or holds spaces or characters outside printable ASCII.
    """
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgument(
            f"{what} is empty or holds spaces or characters outside printable ASCII; "
            "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )


_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")


def _tls(environ: Mapping[str, str]) -> TLS | None:
    names = {
        "ca_cert": "TITAN_CA_CERT",
        "client_cert": "TITAN_CLIENT_CERT",
        "client_key": "TITAN_CLIENT_KEY",
        "server_name": "TITAN_TLS_SERVER_NAME",
    }
    given = {key: value for key, name in names.items() if (value := environ.get(name))}
    word = environ.get("TITAN_TLS", "").strip().lower()
    if word not in ("", *_YES, *_NO):
        raise InvalidArgument(f"environment variable TITAN_TLS={word!r} is neither 1 nor 0")
    if word in _NO and given:
        raise InvalidArgument(
            f"TITAN_TLS={word} turns TLS off, but {names[next(iter(given))]} is set; remove one of them"
        )
    return TLS(**given) if word in _YES or given else None


def _read(environ: Mapping[str, str], name: str, parse: Callable[[object, str], T], default: D) -> T | D:
    text = environ.get(name)
    return parse(text, name) if text else default


def _port(text: object, what: str) -> int:
    digits = str(text).strip()
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidArgument(f"environment variable {what}={text!r} is not a number")
    return check_port(int(digits[:9]), what)


def _worker_address(value: object) -> tuple[str, int]:
    if isinstance(value, str):
        return parse_address(value, "worker_address")
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise InvalidArgument(f"worker_address {value!r} is not a pair of host and port")
    return parse_host(value[0], "worker_address"), check_port(value[1], "worker_address port")
