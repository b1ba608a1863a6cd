"""The master's side of TLS."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

from titan_sdk.errors import InvalidArgument, MissingFile

__all__ = ["ServerTLS"]


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """The master's certificate, and the clients that it accepts. Files are PEM; they are read when the master starts."""

    cert: str
    """The certificate, followed by its chain."""
    key: str | None = None
    """The private key, not encrypted; ``None``: it is in the ``cert`` file."""
    client_ca: str | None = None
    """CA certificates. Only clients with a certificate of these CAs are accepted (mutual TLS)."""

    def __post_init__(self) -> None:
        for name in ("cert", "key", "client_ca"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, os.fspath(value))

    def context(self) -> ssl.SSLContext:
        """The TLS context of the master's port: TLS 1.2 or newer.

        Raises:
            MissingFile, InvalidArgument: a file cannot be read or is no PEM file of its kind; the sentence names it.
        """
        for path, name in ((self.cert, "cert"), (self.key, "key"), (self.client_ca, "client_ca")):
            _check_readable(path, name)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        except (ssl.SSLError, ValueError) as exc:
            raise InvalidArgument(
                f"TLS cert {self.cert!r} and key {self.key!r} are not a certificate and its own key in PEM form "
                f"({exc}); give both, the key without a passphrase"
            ) from exc
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (ssl.SSLError, ValueError) as exc:
                raise InvalidArgument(
                    f"TLS client_ca {self.client_ca!r} holds no certificate in PEM form ({exc})"
                ) from exc
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _no_password() -> str:
    """Replaces OpenSSL's password prompt on the terminal."""
    raise ValueError("the private key is encrypted")


def _check_readable(path: str | None, name: str) -> None:
    if path is None:
        return
    try:
        with open(path, "rb"):
            pass
    except FileNotFoundError as exc:
        raise MissingFile(f"TLS {name} {path!r} is not there; give the path of a PEM file") from exc
    except OSError as exc:
        raise InvalidArgument(
            f"TLS {name} {path!r} cannot be read: {exc.strerror}; let this user read it"
        ) from exc
