"""A certificate authority of the tests' own, with a server's and a client's certificate in a folder."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Identity:
    cert: str
    key: str


@dataclass(frozen=True)
class Authority:
    """Paths of PEM files."""

    ca: str
    server: Identity
    """For 127.0.0.1, localhost and titan.test."""
    client: Identity
    stranger: Identity
    """A client's certificate that another authority has signed."""
    other_ca: str


def make_authority(folder: Path) -> Authority:
    """Fresh certificates; tests that need them are skipped without the package `cryptography`."""
    pytest.importorskip("cryptography")
    ca, other = _Signer(folder, "ca"), _Signer(folder, "other-ca")
    return Authority(
        ca.path,
        ca.sign("server", ["127.0.0.1", "localhost", "titan.test"]),
        ca.sign("client", []),
        other.sign("stranger", []),
        other.path,
    )


class _Signer:
    def __init__(self, folder: Path, name: str) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(name)
        builder = _builder(subject, subject, self._key.public_key())
        self._certificate = builder.add_extension(x509.BasicConstraints(True, None), True).sign(
            self._key, hashes.SHA256()
        )
        self.path = _write(folder / f"{name}.pem", _pem(self._certificate))

    def sign(self, name: str, hosts: list[str]) -> Identity:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(name), self._certificate.subject, key.public_key())
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_name(host) for host in hosts]), False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Identity(
            _write(self._folder / f"{name}.pem", _pem(certificate)),
            _write(self._folder / f"{name}.key", private),
        )


def _subject(name: str):  # type: ignore[no-untyped-def]
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _builder(subject, issuer, public_key):  # type: ignore[no-untyped-def]
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _name(host: str):  # type: ignore[no-untyped-def]
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate) -> bytes:  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives.serialization import Encoding

    return bytes(certificate.public_bytes(Encoding.PEM))


def _write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)
