"""The connection to the Redis server. Only this module knows the client library and its errors."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Iterator
from importlib import resources
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from titan_sdk.cluster.store.changes import InDoubt, Lost, StoreFailed, Unavailable, Unstorable
from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.errors import InvalidArgument

__all__ = ["RedisClient", "text_bytes"]

T = TypeVar("T")

_CONNECT_SECONDS = 3.0
_REPLY_SECONDS = 5.0
_RETRIES = 2
_SURE_SECONDS = 1.0
"""Seconds after a reply for which a connection counts as open."""
_OTHER_NAME = (62, 64)
"""OpenSSL's codes for a host name or address that is not in the certificate."""


class RedisClient:
    """The client. The library sends a request again if its connection is broken, so every request may arrive twice.

    Every method raises ``Unavailable`` if nothing was done, unless its docstring says otherwise.

    Raises:
        InvalidArgument: the package ``redis`` is not installed, the URL is invalid, or a file in the URL cannot
            be used.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._prefix = location.prefix.encode()
        self._redis = _make(location)
        text = resources.files(__package__).joinpath("script.lua").read_text("ascii")
        self._script = self._redis.register_script(text)
        self._sure_until = 0.0

    def key(self, name: str) -> bytes:
        """A key below the prefix."""
        return self._prefix + b":" + text_bytes(name)

    async def call(self, *command: Any) -> Any:
        """One command and its reply."""
        return await self._answered(self._redis.execute_command(*command))

    async def run(self, action: str, *args: Any) -> Any:
        """An action of the script.

        Raises:
            Lost: another master writes here, or the data is gone.
        """
        return await self._answered(self._script([self._prefix], [action, *args]))

    async def run_once(self, action: str, *args: Any) -> Any:
        """``run`` for an action whose outcome must be known.

        Raises:
            InDoubt: it may have been done.
        """
        if asyncio.get_running_loop().time() > self._sure_until:
            await self.call("PING")
        try:
            return await self.run(action, *args)
        except Unavailable as exc:
            if isinstance(exc, _NotReached):
                raise InDoubt(str(exc)) from exc
            raise
        except StoreFailed:
            raise
        except Exception as exc:
            # The outcome is unknown.
            raise InDoubt(f"{type(exc).__name__}: {exc}") from exc

    async def info(self) -> dict[str, Any]:
        """The server's INFO; empty if it is not allowed."""
        try:
            return dict(await self.call("INFO"))
        except _RedisRefused:
            return {}

    async def setting(self, name: str) -> str | None:
        """A setting of the server; ``None`` if reading it is not allowed."""
        try:
            found = await self.call("CONFIG GET", name)
        except _RedisRefused:
            return None
        return {_text_of(key): _text_of(value) for key, value in dict(found).items()}.get(name)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _answered(self, request: Awaitable[T]) -> T:
        from redis import exceptions

        try:
            reply = await request
        except exceptions.ResponseError as exc:
            raise self._refusal(exc) from exc
        except (exceptions.RedisError, OSError) as exc:
            self._sure_until = 0.0
            raise _NotReached(_unreachable(self.location, exc)) from exc
        self._sure_until = asyncio.get_running_loop().time() + _SURE_SECONDS
        return reply

    def _refusal(self, exc: Exception) -> StoreFailed:
        from redis import exceptions

        where, text = self.location.shown, str(exc)
        word, _, rest = text.partition(" ")
        if word == "TITANLOST":
            return Lost(rest)
        if word == "TITANGAP":
            return Lost(
                f"the store {where} has lost commits {rest}, which it had acknowledged; run it with appendonly yes and "
                "appendfsync always. What it has is what the next master goes on with, once it is started with "
                "--accept-lost-commits"
            )
        if isinstance(exc, exceptions.OutOfMemoryError) or "OOM command" in text:
            return _RedisRefused(
                f"the memory of the store {where} is full ({text}); raise its maxmemory, or let it keep less"
            )
        if isinstance(exc, exceptions.ReadOnlyError) or "READONLY" in text:
            return _RedisRefused(f"the store {where} is a replica, which cannot be written; name the primary")
        if text.startswith(("NOAUTH", "WRONGPASS")):
            return _RedisRefused(_unreachable(self.location, exceptions.AuthenticationError(text)))
        if isinstance(exc, exceptions.NoPermissionError) or text.startswith("NOPERM"):
            return _RedisRefused(
                f"the store {where} has a user without the rights for that ({text}); docs/store.md has the rights "
                f"that it needs below the prefix {self.location.prefix!r}"
            )
        if "MISCONF" in text:
            return _RedisRefused(
                f"the store {where} cannot write its file and so takes no changes ({text}); free its disk"
            )
        return _RedisRefused(f"the store {where} refuses: {text}")


class _NotReached(Unavailable):
    """No reply came."""


class _RedisRefused(Unavailable):
    """The server has answered."""


def _text_of(found: str | bytes) -> str:
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else found


def text_bytes(text: str) -> bytes:
    """
    Raises:
        Unstorable: it is no text.
    """
    try:
        return text.encode()
    except UnicodeError as exc:
        raise Unstorable(str(exc)) from exc


# ---------------------------------------------------------------------- from a URL to the library's client


def _make(location: Location) -> Any:
    try:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import ExponentialBackoff
    except ImportError as exc:
        raise InvalidArgument(
            "a store on Redis needs the package redis; `pip install 'redis>=5'` brings it, or leave the store out"
        ) from exc
    options: dict[str, Any] = {}
    query = parse_qs(urlsplit(str(location.url)).query)
    given = {name: values[0] for name, values in query.items()}
    if _is_tls(location):
        _check_files(location, given)
        # Only some versions of the library check the name.
        options["ssl_check_hostname"] = given.get("ssl_cert_reqs") != "none"
    elif any(name.startswith("ssl_") for name in given):
        raise InvalidArgument(
            f"the store {location.shown} has options of TLS, and its URL says that there is none; write rediss://"
        )
    # Not after a timeout: a second one would take as long.
    retry = Retry(ExponentialBackoff(cap=0.4, base=0.05), _RETRIES, (redis.exceptions.ConnectionError,))
    try:
        client = redis.asyncio.Redis.from_url(
            _url_with_password(location),
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_REPLY_SECONDS,
            retry=retry,
            protocol=2,
            **options,
        )
        # The library reports an unknown option only when it makes a connection.
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (ValueError, TypeError, redis.exceptions.RedisError) as exc:
        words = str(exc).split("unexpected keyword argument ")
        told = f"it has no option {words[1]}" if len(words) == 2 else str(exc)
        raise InvalidArgument(f"the store {location.shown} is no URL that redis takes: {told}") from exc
    return client


def _is_tls(location: Location) -> bool:
    return urlsplit(str(location.url)).scheme == "rediss"


def _url_with_password(location: Location) -> str:
    """The URL with the password in it: the library prefers a URL's password to an argument."""
    parts = urlsplit(str(location.url))
    if location.password is None:
        return str(location.url)
    login, _, host = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    password = quote(str(location.password), safe="")
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))


def _check_files(location: Location, given: dict[str, str]) -> None:
    """Check the TLS files: the library does not report which file it cannot use, or why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca, cert, key = (given.get(name) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))
    if ca is not None:
        with _named(location, f"ssl_ca_certs={ca}", "holds no certificate in PEM form"):
            context.load_verify_locations(ca)
    if cert is not None:
        what = f"ssl_certfile={cert}" + ("" if key is None else f" with ssl_keyfile={key}")
        with _named(location, what, "is not a certificate and its own key in PEM form"):
            # Avoid OpenSSL's password prompt on the terminal.
            context.load_cert_chain(cert, key, password=given.get("ssl_password", ""))


@contextlib.contextmanager
def _named(location: Location, what: str, problem: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as exc:
        raise InvalidArgument(f"the store {location.shown}: {what} {problem} ({exc})") from exc
    except OSError as exc:
        raise InvalidArgument(f"the store {location.shown}: {what} cannot be read: {exc.strerror}") from exc


# ---------------------------------------------------------------------- sentences


def _unreachable(location: Location, exc: Exception) -> str:
    """The reason why the server cannot be reached, and the fix."""
    from redis import exceptions

    where, text = location.shown, str(exc)
    if isinstance(exc, exceptions.AuthenticationError):
        return f"the store {where} does not take the password or user name ({text}); correct --store or its password"
    if isinstance(exc, exceptions.TimeoutError):
        tls = ", or does it not speak TLS?" if _is_tls(location) else "?"
        return f"the store {where} does not answer ({text}); is it up, and reachable from here{tls}"
    if isinstance(exc, exceptions.BusyLoadingError):
        return f"the store {where} is still reading its data ({text})"
    causes = list(_causes(exc))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return f"the store {where} is reached, but {_of_tls(location, cause)}"
    if any(isinstance(cause, ConnectionResetError | BrokenPipeError) for cause in causes):
        return f"the store {where} cannot be reached ({text}); {_RESET[_is_tls(location)]}"
    return f"the store {where} cannot be reached ({text}); start it, or correct --store"


# The alert with the reason may be lost with the connection.
_RESET = {
    True: "one that wants a certificate of its clients does that to one without a right ssl_certfile=",
    False: (
        "one that speaks TLS does that to a URL without it: write rediss://; one in protected mode does it to other "
        "machines: give it a password"
    ),
}


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    found: list[BaseException] = []
    while exc is not None and exc not in found:
        found.append(exc)
        yield exc
        exc = exc.__cause__ or exc.__context__


def _of_tls(location: Location, exc: ssl.SSLError) -> str:
    reason = (exc.reason or str(exc)).replace("_", " ").lower()
    if isinstance(exc, ssl.SSLCertVerificationError):
        if exc.verify_code in _OTHER_NAME:
            host = urlsplit(str(location.url)).hostname
            return f"its certificate is not for {host!r}; write a name that it contains"
        return (
            f"its certificate is not trusted ({exc.verify_message}); add ?ssl_ca_certs= with the PEM file of the CA "
            "that signed it"
        )
    if "alert" in reason and any(word in reason for word in ("certificate", "unknown ca", "handshake")):
        return (
            f"wants a certificate of its clients ({reason}); give ssl_certfile= and ssl_keyfile=, of a CA that it "
            "trusts"
        )
    return f"not over TLS ({reason}); check redis:// against rediss://"
