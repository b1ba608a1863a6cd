"""TLS for both transports: one context per configuration, and errors as sentences instead of OpenSSL's texts."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from titan_sdk.config import TLS, ClientConfig
from titan_sdk.errors import InvalidArgument, MissingFile, TLSFailed

if TYPE_CHECKING:
    import ssl  # OpenSSL is loaded by those who use TLS

__all__ = ["REFUSED_CERTIFICATE", "client_context", "explain_tls", "no_password", "server_name"]


REFUSED_CERTIFICATE = (
    "one that asks for client certificates does it to a client without a right one (client_cert)"
)
"""Another reason for the end of a TLS connection. The alert that names it may be lost with the connection."""


def client_context(tls: TLS) -> ssl.SSLContext:
    """A context that verifies the master. It is made again when one of the files has changed.

    Raises:
        MissingFile, InvalidArgument: a file cannot be read or is no PEM file of its kind; the sentence names it.
    """
    files = ((tls.ca_cert, "ca_cert"), (tls.client_cert, "client_cert"), (tls.client_key, "client_key"))
    return _context(tls, tuple(_version(path, name) for path, name in files))


def server_name(config: ClientConfig) -> str:
    """The name that the master's certificate must carry."""
    return (config.tls and config.tls.server_name) or config.host


@functools.lru_cache(maxsize=32)
def _context(tls: TLS, versions: object) -> ssl.SSLContext:
    import ssl

    del versions  # a part of the cache's key only
    try:
        context = ssl.create_default_context(cafile=tls.ca_cert)
    except (ssl.SSLError, ValueError) as exc:
        raise InvalidArgument(
            f"ca_cert {tls.ca_cert!r} holds no certificate in PEM form ({exc}); give the CA's certificate"
        ) from exc
    if tls.client_cert is not None:
        try:
            context.load_cert_chain(tls.client_cert, tls.client_key, password=no_password)
        except (ssl.SSLError, ValueError) as exc:
            raise InvalidArgument(
                f"client_cert {tls.client_cert!r} and client_key {tls.client_key!r} are not a certificate and its "
                f"own key in PEM form ({exc}); give both, the key without a passphrase"
            ) from exc
    return context


def no_password() -> str:
    """Replaces OpenSSL's password prompt on the terminal."""
    raise ValueError("the private key is encrypted")


def _version(path: str | None, name: str) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
    except FileNotFoundError as exc:
        raise MissingFile(
            f"{name} {path!r} is not there; give the path of a PEM file on this machine"
        ) from exc
    except OSError as exc:
        raise InvalidArgument(
            f"{name} {path!r} cannot be read: {exc.strerror}; let this user read it"
        ) from exc
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@contextmanager
def explain_tls(config: ClientConfig, operation: str, *, connecting: bool) -> Iterator[None]:
    """Turn a failed handshake into ``TLSFailed``. ``map_os_errors`` handles all other errors.

    With TLS 1.3 a master refuses a client's certificate only after the client has begun to send, so its alert
    arrives instead of a reply. The master has read no request by then.
    """
    if config.tls is None:
        yield
        return
    import ssl

    try:
        yield
    except (ssl.SSLError, ConnectionError) as exc:
        if not connecting and isinstance(exc, ConnectionError):
            raise type(exc)(exc.errno, f"{exc.strerror or exc}; {REFUSED_CERTIFICATE}") from exc
        if not connecting and "ALERT" not in (getattr(exc, "reason", None) or ""):
            raise
        if connecting and isinstance(exc, ConnectionRefusedError):
            raise
        raise TLSFailed(
            f"{operation}: no TLS connection to {config.address}: {_sentence(exc, config)}",
            address=config.address,
            operation=operation,
        ) from exc


def _sentence(exc: Exception, config: ClientConfig) -> str:
    import ssl

    assert config.tls is not None
    wanted = server_name(config)
    if isinstance(exc, ssl.SSLCertVerificationError):
        if exc.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
            return f"its certificate is not for {wanted!r}; connect by a name that it carries, or give that name as server_name"
        trusted = config.tls.ca_cert or "what the operating system trusts"
        return (
            f"its certificate is not trusted ({exc.verify_message}); trusted is only {trusted}. "
            "Give the certificate of the CA that signed it as ca_cert"
        )
    reason = (getattr(exc, "reason", None) or str(exc)).replace("_", " ").lower()
    if "alert" in reason and ("certificate" in reason or "unknown ca" in reason or "handshake" in reason):
        if config.tls.client_cert is None:
            return f"it asks for a client certificate ({reason}); give client_cert and client_key"
        return (
            f"it does not accept the client certificate {config.tls.client_cert!r} ({reason}); "
            "give one that is signed by its client CA and not expired"
        )
    return f"what listens there does not speak TLS or ended the handshake ({reason}); leave tls out if it is a plain port"
