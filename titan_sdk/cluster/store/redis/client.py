"""The client library's client for a URL. What it would find out only when it connects, or never, is checked here."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.errors import InvalidArgument

__all__ = ["make_client"]

_CONNECT_SECONDS = 3.0
_REPLY_SECONDS = 5.0


def make_client(location: Location) -> Any:
    """A ``redis.asyncio.Redis`` that has not connected yet.

    Raises:
        InvalidArgument: the package ``redis`` is not installed, does not take the URL, or a file that it names cannot
            be used.
    """
    try:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as exc:
        raise InvalidArgument(
            "a store on Redis needs the package redis; `pip install 'redis>=5'` brings it, or leave the store out"
        ) from exc
    options: dict[str, Any] = {}
    given = _options_of(location)
    if urlsplit(str(location.url)).scheme == "rediss":
        _check_files(location, given)
        # Its versions differ in whether they look at the name.
        options["ssl_check_hostname"] = given.get("ssl_cert_reqs") != "none"
    elif any(name.startswith("ssl_") for name in given):
        raise InvalidArgument(
            f"the store {location.shown} has options of TLS, and its URL says that there is none; write rediss://"
        )
    try:
        client = redis.asyncio.Redis.from_url(
            _url_with_password(location),
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_REPLY_SECONDS,
            # What may be repeated is decided in `link.py`.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **options,
        )
        # An option that it does not know shows first when a connection is made.
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (ValueError, TypeError, redis.exceptions.RedisError) as exc:
        raise InvalidArgument(f"the store {location.shown} is no URL that redis takes: {_told(exc)}") from exc
    return client


def _url_with_password(location: Location) -> str:
    """The library lets a URL's password go before one that it is given beside it."""
    parts = urlsplit(str(location.url))
    if location.password is None:
        return str(location.url)
    login, _, host = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    password = quote(str(location.password), safe="")
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))


def _options_of(location: Location) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(str(location.url)).query).items()}


def _told(exc: Exception) -> str:
    words = str(exc).split("unexpected keyword argument ")
    return f"it has no option {words[1]}" if len(words) == 2 else str(exc)


def _check_files(location: Location, given: dict[str, str]) -> None:
    """The library reads them with every connection, and says neither which one it cannot use nor why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca, cert, key = (given.get(name) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))
    if ca is not None:
        with _named(location, f"ssl_ca_certs={ca}", "holds no certificate in PEM form"):
            context.load_verify_locations(ca)
    if cert is not None:
        what = f"ssl_certfile={cert}" + ("" if key is None else f" with ssl_keyfile={key}")
        with _named(location, what, "is not a certificate and its own key in PEM form"):
            # Never OpenSSL's question on the terminal.
            context.load_cert_chain(cert, key, password=given.get("ssl_password", ""))


@contextlib.contextmanager
def _named(location: Location, what: str, problem: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as exc:
        raise InvalidArgument(f"the store {location.shown}: {what} {problem} ({exc})") from exc
    except OSError as exc:
        raise InvalidArgument(f"the store {location.shown}: {what} cannot be read: {exc.strerror}") from exc
