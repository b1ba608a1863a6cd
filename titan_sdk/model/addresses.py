"""The one parser of hosts, ports, ``host:port`` and URLs. Ambiguous or impossible values are refused with the fix."""

from __future__ import annotations

import re

from titan_sdk.errors import InvalidArgument

__all__ = [
    "check_port",
    "is_loopback",
    "parse_address",
    "parse_host",
    "parse_url",
    "show_address",
]

_LABEL = re.compile(r"\w([\w-]*\w)?")
_EXAMPLE = "titan.example.org"


def parse_host(value: object, what: str) -> str:
    """A host name or an IP address. The brackets of an IPv6 address are removed.

    Args:
        what: names the host in a refusal.

    Raises:
        InvalidArgument: the value is no host, such as ``host:port`` or a URL.
    """
    text = value.strip() if isinstance(value, str) else ""
    host = _bracketed(text) or text
    if _is_host(host):
        return host
    raise InvalidArgument(f"{what} {value!r} is not a host name; {_advice(text)}")


def check_port(value: object, what: str, *, zero: bool = False) -> int:
    """The value as a port number.

    Raises:
        InvalidArgument: it is not a whole number from 1 (with ``zero``: 0) to 65535.
    """
    lowest = 0 if zero else 1
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= 65535:
        raise InvalidArgument(f"{what} {value!r} is not a port number from {lowest} to 65535")
    return value


def parse_address(text: object, what: str = "address", *, port: int | None = None) -> tuple[str, int]:
    """The host and port of ``host:port`` or ``[ipv6]:port``.

    Args:
        what: names the address in a refusal.
        port: the default port. Without it every address needs a port. If it is 0, 0 is an allowed port.

    Raises:
        InvalidArgument: the text is not such a pair, or is an IPv6 address whose last part may be the port.
    """
    given = text.strip() if isinstance(text, str) else ""
    form = "host:port" if port is None else "HOST or HOST:PORT"
    if given.count(":") > 1 and not given.startswith("["):
        if port is not None and _is_host(given):
            return given, port
        if "//" not in given:
            advice = f"write an IPv6 address in brackets, as in [{given if _is_host(given) else '::1'}]:9090"
            raise InvalidArgument(f"{what} {text!r} is not {form}; {advice}")
    host, number = _split(given)
    if number is None and port is not None and _is_host(host):
        return host, port
    if not _is_host(host) or not number or not (number.isascii() and number.isdigit()):
        raise InvalidArgument(f"{what} {text!r} is not {form}, for example {_EXAMPLE}:9090")
    return host, check_port(int(number[:9]), what, zero=port == 0)


def parse_url(value: object, what: str) -> str:
    """An ``http`` or ``https`` URL without trailing slashes.

    Raises:
        InvalidArgument: the value is no such URL, or its host or port is invalid.
    """
    from urllib.parse import urlsplit  # few clients are given a URL

    text = value.strip() if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(c.isspace() for c in text):
        raise InvalidArgument(f"{what} {value!r} is not a URL; write it as http://{_EXAMPLE}:5000")
    return text.rstrip("/")


def show_address(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached under that name or address."""
    import ipaddress

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(text: str) -> tuple[str, str | None]:
    """The host, and the text behind its colon, or None without a colon."""
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        host = inside if bracket and ":" in inside else ""
        return (host, rest[1:]) if rest.startswith(":") else (host if not rest else "", None)
    host, colon, number = text.partition(":")
    return host, number if colon else None


def _bracketed(text: str) -> str | None:
    return text[1:-1] if text.startswith("[") and text.endswith("]") and ":" in text else None


def _is_host(text: str) -> bool:
    if ":" in text or text.replace(".", "").isdecimal():
        import ipaddress  # a name does without

        try:
            ipaddress.ip_address(text)
        except ValueError:
            return False
        return True
    labels = text.removesuffix(".").split(".")
    return len(text) <= 253 and all(len(label) <= 63 and _LABEL.fullmatch(label) for label in labels)


def _advice(text: str) -> str:
    host, number = _split(text)
    if number and number.isdecimal() and _is_host(host):
        return f"give {host!r} as the host and {number} as the port"
    return "give the name or address alone, without http://, port or path"
