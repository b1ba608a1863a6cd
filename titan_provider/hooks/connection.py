"""From an Airflow connection to a ClientConfig. Every value is checked, and none is silently ignored."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from titan_provider.compat import mask_secret
from titan_provider.exceptions import TitanConnectionError
from titan_provider.get_provider_info import get_provider_info
from titan_sdk import TLS, ClientConfig, InvalidArgument
from titan_sdk.config import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    check_port,
    parse_address,
    parse_duration,
    parse_host,
    parse_url,
)

__all__ = ["Settings", "check_extra", "read_connection"]

T = TypeVar("T")

_TYPE = "titan"
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
# Extras of the connection by the SDK's name for them.
_FILES = {"ca_cert": "ca_cert", "client_cert": "client_cert", "client_key": "client_private_key"}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a connection."""

    config: ClientConfig
    max_unfinished: int | None
    """The admission window, or None where the connection sets none."""


def check_extra(conn: Any) -> None:
    """Refuse extras that are not a JSON object. Airflow would read broken JSON as no extras, and so switch off TLS.

    :raises TitanConnectionError: the extras are not a JSON object
    """
    text = conn.extra
    if not text:
        return
    try:
        extra = json.loads(text) if isinstance(text, str) else text
    except ValueError as exc:
        # The text itself may hold a token.
        raise TitanConnectionError(f"connection {conn.conn_id!r}: the extras are not JSON: {exc}") from None
    if extra is not None and not isinstance(extra, Mapping):
        raise TitanConnectionError(
            f"connection {conn.conn_id!r}: the extras are a {type(extra).__name__}, not a JSON object such as "
            '{"tls": true}'
        )


def read_connection(conn: Any, extra: Mapping[str, Any] | None) -> Settings:
    """The settings in a connection.

    :param conn: the Airflow connection; its host and port default to localhost and 9090
    :param extra: the connection's extras. Airflow's form stores fields left empty as null, so null means unset
    :raises TitanConnectionError: a value is not valid, or its name is unknown
    """
    where = f"connection {conn.conn_id!r}"
    try:
        _check_kind(conn)
        reader = _Extras(extra or {})
        return Settings(
            ClientConfig(
                host=parse_host(conn.host, "host") if conn.host else DEFAULT_HOST,
                port=DEFAULT_PORT if conn.port is None else check_port(conn.port, "port"),
                timeout=reader.get("timeout", parse_duration, ClientConfig().timeout),
                worker_address=reader.get("worker_address", parse_address, None),
                dashboard_url=reader.get("dashboard_url", parse_url, None),
                tls=_tls(reader),
                auth_token=reader.get("auth_token", _token, None),
            ),
            reader.get("max_unfinished", _whole, None),
        )
    except InvalidArgument as exc:
        raise TitanConnectionError(f"{where}: {exc}") from exc


class _Extras:
    """The extras that are set. Null and an empty text count as unset."""

    def __init__(self, extra: Mapping[str, Any]) -> None:
        self._given = {name: value for name, value in extra.items() if value is not None and value != ""}
        known = _known()
        for name in self._given:
            if name not in known:
                # No value is shown, because a secret may have a wrong name.
                near = difflib.get_close_matches(str(name).lower(), known, 1, 0.5)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise InvalidArgument(f"unknown extra {name!r}; {hint}There are {', '.join(known)}")

    def get(self, name: str, read: Callable[[Any, str], T], default: T | None) -> Any:
        return read(self._given[name], f"extra {name!r}") if name in self._given else default


def _known() -> list[str]:
    info: Any = get_provider_info()
    return list(info["connection-types"][0]["conn-fields"])


def _check_kind(conn: Any) -> None:
    """Refuse other types. Airflow silently reads ``host:port`` as a connection of another type, without a host."""
    if conn.conn_type != _TYPE:
        kind = f"of type {conn.conn_type!r}" if conn.conn_type else "without a type"
        raise InvalidArgument(
            f"it is {kind}, not {_TYPE!r}; write its URI as titan://host:port, or choose the type Titan"
        )
    for name in ("login", "password"):
        if getattr(conn, name, None):
            raise InvalidArgument(
                f"{name} is set, but Titan has no users or passwords; remove it, and give a master's token as the "
                "extra 'auth_token'"
            )
    if getattr(conn, "schema", None):
        raise InvalidArgument(
            f"schema {conn.schema!r} is set, but Titan has none; remove it (in a URI: what follows host:port/)"
        )


def _tls(extras: _Extras) -> TLS | None:
    files = {key: text for key, name in _FILES.items() if (text := extras.get(name, _path, None))}
    wanted = extras.get("tls", _flag, None)
    if wanted is False and files:
        # The form stores an untouched box as false. That must not switch off encryption.
        raise InvalidArgument(
            f"extra 'tls' is false, but {_FILES[next(iter(files))]!r} is set; set 'tls' as well, or remove the file"
        )
    return TLS(**files) if wanted or files else None


def _flag(value: Any, what: str) -> bool:
    word = str(value).strip().lower()
    if word not in (*_TRUE, *_FALSE):
        raise InvalidArgument(f"{what} {value!r} is neither true nor false")
    return word in _TRUE


def _path(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} {value!r} is not the path of a file")
    return value


def _token(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} is not a text; put it in quotes")
    mask_secret(value)
    return value


def _whole(value: Any, what: str) -> int:
    try:
        if isinstance(value, bool) or int(value) != float(value) or int(value) < 1:
            raise ValueError(value)
        return int(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise InvalidArgument(f"{what} {value!r} is not a whole number from 1 up") from exc
