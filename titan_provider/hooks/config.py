"""From an Airflow connection to a ClientConfig: every value checked, nothing set silently ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from titan_provider.compat import mask_secret
from titan_provider.exceptions import TitanConnectionError
from titan_sdk import TLS, ClientConfig, InvalidArgument
from titan_sdk.config import DEFAULT_HOST, DEFAULT_PORT, parse_address

__all__ = ["client_config", "max_unfinished"]

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
# Extras of the connection by the SDK's name for them.
_FILES = {"ca_cert": "ca_cert", "client_cert": "client_cert", "client_key": "client_private_key"}


def client_config(conn: Any, extra: Mapping[str, Any]) -> ClientConfig:
    """What a connection asks for, as the SDK's configuration.

    :param conn: the Airflow connection; its host and port default to localhost and 9090
    :param extra: the connection's extras. Airflow's form stores fields left empty as null, so null means unset
    :raises TitanConnectionError: a value makes no sense
    """
    _refuse_login(conn)
    where = f"connection {conn.conn_id!r}"
    worker_address = extra.get("worker_address")
    try:
        return ClientConfig(
            host=conn.host or DEFAULT_HOST,
            port=conn.port or DEFAULT_PORT,
            timeout=_seconds(where, extra),
            worker_address=parse_address(str(worker_address), "extra worker_address")
            if worker_address
            else None,
            dashboard_url=_url(where, extra),
            tls=_tls(where, extra),
            auth_token=_token(where, extra),
        )
    except InvalidArgument as exc:
        raise TitanConnectionError(f"{where}: {exc}") from exc


def max_unfinished(conn: Any, extra: Mapping[str, Any]) -> int | None:
    """The connection's admission window, or None where it sets none.

    :param conn: the Airflow connection
    :param extra: its extras
    :raises TitanConnectionError: the value is no whole number from 1 up
    """
    value = extra.get("max_unfinished")
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool) or int(value) != float(value) or int(value) < 1:
            raise ValueError(value)
        return int(value)
    except (TypeError, ValueError) as exc:
        raise TitanConnectionError(
            f"connection {conn.conn_id!r}: extra 'max_unfinished' {value!r} is not a whole number from 1 up"
        ) from exc


def _tls(where: str, extra: Mapping[str, Any]) -> TLS | None:
    files = {key: str(extra[name]) for key, name in _FILES.items() if extra.get(name)}
    word = str(extra.get("tls") if extra.get("tls") is not None else "").strip().lower()
    if word not in ("", *_TRUE, *_FALSE):
        raise TitanConnectionError(f"{where}: extra 'tls' {word!r} is neither true nor false")
    if word in _FALSE and files:
        # The form stores an untouched box as false: nothing may go out in the clear because of that.
        raise TitanConnectionError(
            f"{where}: extra 'tls' is false, but {_FILES[next(iter(files))]!r} is set; set 'tls' as well, "
            "or remove the file"
        )
    return TLS(**files) if word in _TRUE or files else None


def _token(where: str, extra: Mapping[str, Any]) -> str | None:
    token = extra.get("auth_token")
    if token is None or token == "":
        return None
    if not isinstance(token, str):
        raise TitanConnectionError(f"{where}: extra 'auth_token' is not a text; put it in quotes")
    mask_secret(token)
    return token


def _refuse_login(conn: Any) -> None:
    for name in ("login", "password"):
        if getattr(conn, name, None):
            raise TitanConnectionError(
                f"connection {conn.conn_id!r}: {name} is set, but Titan has no users or passwords; remove it, "
                "and give a master's token as the extra 'auth_token'"
            )


def _seconds(where: str, extra: Mapping[str, Any]) -> float:
    value = extra.get("timeout")
    if value is None or value == "":
        return ClientConfig().timeout
    try:
        if isinstance(value, bool):
            raise TypeError(value)
        return float(value)
    except (TypeError, ValueError) as exc:
        raise TitanConnectionError(f"{where}: extra 'timeout' {value!r} is not a number of seconds") from exc


def _url(where: str, extra: Mapping[str, Any]) -> str | None:
    url = extra.get("dashboard_url")
    if not url:
        return None
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise TitanConnectionError(
            f"{where}: extra 'dashboard_url' {url!r} is not a URL; write it as http://titan.example.org:5000"
        )
    return url.rstrip("/")
