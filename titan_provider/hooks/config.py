"""From an Airflow connection to a ClientConfig: every value checked, nothing set silently ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from titan_provider.exceptions import TitanConnectionError
from titan_sdk import ClientConfig, InvalidArgument
from titan_sdk.config import DEFAULT_HOST, DEFAULT_PORT, parse_address

__all__ = ["client_config", "max_unfinished"]

# Design names that the SDK cannot honour yet. Dropping them would send work in the clear, unauthenticated.
_NOT_YET = ("tls", "ca_cert", "client_cert", "client_private_key", "auth_token")
_FALSE = ("", "false", "no", "off", "0", "none", "null")


def client_config(conn: Any, extra: Mapping[str, Any]) -> ClientConfig:
    """What a connection asks for, as the SDK's configuration.

    :param conn: the Airflow connection; its host and port default to localhost and 9090
    :param extra: the connection's extras. Airflow's form stores fields left empty as null, so null means unset
    :raises TitanConnectionError: a value makes no sense or needs a newer version of this provider
    """
    _refuse_unsupported(conn, extra)
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


def _refuse_unsupported(conn: Any, extra: Mapping[str, Any]) -> None:
    for name in _NOT_YET:
        value = extra.get(name)
        if value is not None and str(value).strip().lower() not in _FALSE:
            raise TitanConnectionError(
                f"connection {conn.conn_id!r}: extra {name!r} is set, but this version of airflow-provider-titan "
                "has no TLS and no token; remove it, and reach the master through a private network or tunnel"
            )
    for name in ("login", "password"):
        if getattr(conn, name, None):
            raise TitanConnectionError(
                f"connection {conn.conn_id!r}: {name} is set, but Titan has no users or passwords; remove it"
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
