"""What keeps a client from its server, in words that say what to do."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from titan_sdk.cluster.store.redis.location import Location

__all__ = ["unreachable"]

_OTHER_NAME = (62, 64)
"""OpenSSL's codes for a host name and an address that the certificate does not bear."""


def unreachable(location: Location, exc: Exception) -> str:
    """The sentence for an error of the client library, or of the system."""
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


# An alert that would say so may be lost with the connection.
_RESET = {
    True: "one that wants a certificate of its clients does that to one without a right ssl_certfile=",
    False: (
        "one that speaks TLS does that to a URL without it: write rediss://; one in protected mode does it to other "
        "machines: give it a password"
    ),
}


def _causes(exc: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while exc is not None and exc not in found:
        found.append(exc)
        exc = exc.__cause__ or exc.__context__
    return found


def _is_tls(location: Location) -> bool:
    return urlsplit(str(location.url)).scheme == "rediss"


def _of_tls(location: Location, exc: ssl.SSLError) -> str:
    reason = (exc.reason or str(exc)).replace("_", " ").lower()
    if isinstance(exc, ssl.SSLCertVerificationError):
        if exc.verify_code in _OTHER_NAME:
            host = urlsplit(str(location.url)).hostname
            return f"its certificate is not for {host!r}; write a name that it bears"
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
