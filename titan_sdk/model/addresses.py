"""The one reader of hosts, ports, ``host:port`` and URLs: what is ambiguous or cannot be is refused with the fix."""

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
    """A name or an IP address alone; an IPv6 address may stand in brackets, which are taken off.

    Args:
        what: names the host in a refusal.

    Raises:
        InvalidArgument: it is anything else, such as ``host:port`` or a URL.
    """
    text = value.strip() if isinstance(value, str) else ""
    host = _bracketed(text) or text
    if _is_host(host):
        return host
    raise InvalidArgument(f"{what} {value!r} is not a host name; {_advice(text)}")


def check_port(value: object, what: str, *, zero: bool = False) -> int:
    """The port.

    Raises:
        InvalidArgument: it is no whole number from 1, or from 0 where ``zero`` is set, to 65535.
    """
    lowest = 0 if zero else 1
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= 65535:
        raise InvalidArgument(f"{what} {value!r} is not a port number from {lowest} to 65535")
    return value


def parse_address(text: object, what: str = "address", *, port: int | None = None) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[ipv6]:port``.

    Args:
        what: names the address in a refusal.
        port: the port of an address without one; by default every address needs one. 0 is allowed if this is 0.

    Raises:
        InvalidArgument: the text is no such pair, or an IPv6 address whose last part may be the port.
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
    """An ``http`` or ``https`` URL, without slashes at its end.

    Raises:
        InvalidArgument: it is none, or its host or port cannot be.
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
    """``host:port``, brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached under that name or address."""
    import ipaddress

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(text: str) -> tuple[str, str | None]:
    """Host and what follows its colon, or None without one."""
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
