"""TitanHook: from an Airflow connection of type ``titan`` to the SDK's clients."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import titan_sdk
from titan_provider.compat import BaseHook, form_widgets, get_async_connection, get_async_extra_dejson
from titan_provider.get_provider_info import get_provider_info
from titan_provider.hooks.connection import Settings, check_extra, read_connection
from titan_sdk import ClientConfig, JobStatus, TitanError
from titan_sdk.config import parse_address

if TYPE_CHECKING:
    from titan_sdk import AsyncTitanClient, ClusterStats, TitanClient

__all__ = ["TitanHook"]


class TitanHook(BaseHook):
    """Reaches a Titan master through an Airflow connection.

    :param titan_conn_id: id of a connection of type ``titan``
    :param master: address to use in place of the connection's own, which may have been edited
    """

    conn_name_attr = "titan_conn_id"
    default_conn_name = "titan_default"
    conn_type = "titan"
    hook_name = "Titan"

    def __init__(self, titan_conn_id: str = default_conn_name, *, master: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.master = master
        # A template that renders to native values makes a number of an id of digits.
        self.titan_conn_id = str(titan_conn_id)
        self._settings: Settings | None = None

    def _read(self) -> Settings:
        if self._settings is None:
            conn = self.get_connection(self.titan_conn_id)
            check_extra(conn)
            self._settings = read_connection(conn, conn.extra_dejson)
        return self._settings

    def get_config(self) -> ClientConfig:
        """The client's settings. The connection is fetched once per hook."""
        return self._placed(self._read().config)

    def _placed(self, config: ClientConfig) -> ClientConfig:
        if self.master in ("", config.address):
            return config
        host, port = parse_address(self.master, "a record of this task")
        return replace(config, host=host, port=port)

    def at(self, master: str) -> TitanHook:
        """A hook for the master at that address; all other settings are those of the connection.

        :param master: ``host:port``; empty for the connection's own
        """
        return (
            self
            if master in ("", self.get_config().address)
            else TitanHook(self.titan_conn_id, master=master)
        )

    async def get_config_of(self, job_id: str) -> ClientConfig:
        """The settings for the master that has the job, as :meth:`get_async_config` gives them.

        Where the connection has been edited and its master knows the job, the master has moved, and the connection counts.

        :param job_id: a job that was submitted to ``master``
        """
        config = await self.get_async_config()
        assert self._settings is not None
        now = self._settings.config
        if now.address == config.address:
            return config
        try:
            async with titan_sdk.AsyncTitanClient(config=now) as client:
                is_known = await client.get_job_status(job_id) is not JobStatus.UNKNOWN
        except TitanError:
            is_known = False
        return now if is_known else config

    async def get_async_config(self) -> ClientConfig:
        """As :meth:`get_config`, for code on an event loop (triggers)."""
        if self._settings is None:
            conn = await get_async_connection(self.titan_conn_id, hook=type(self))
            check_extra(conn)
            self._settings = read_connection(conn, await get_async_extra_dejson(conn))
        return self._placed(self._settings.config)

    def get_max_unfinished(self) -> int | None:
        """The limit of unfinished jobs per tag; None where the connection sets none."""
        return self._read().max_unfinished

    def get_conn(self) -> TitanClient:
        """A client of the connection's master; it connects with its first call, and the caller closes it."""
        return titan_sdk.TitanClient(config=self.get_config())

    async def get_async_conn(self) -> AsyncTitanClient:
        """As :meth:`get_conn`, for code on an event loop."""
        return titan_sdk.AsyncTitanClient(config=await self.get_async_config())

    def test_connection(self) -> tuple[bool, str]:
        """The result of the connection form's Test button: success, and a sentence."""
        try:
            with self.get_conn() as client:
                server, stats = client.server_info(), client.cluster_stats()
                problem = _store_problem(client)
        except (TitanError, ValueError) as exc:
            return False, str(exc)
        found = f"{server} at {self.get_config().address}: {_describe_workers(stats)}"
        if problem:
            return False, f"{found}; {problem}"
        return True, f"{found}; store round trip OK"

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form's own fields on Airflow 2; Airflow 3 reads the provider info instead."""
        return form_widgets(_declared()["conn-fields"])

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The form's standard fields on Airflow 2; Airflow 3 reads the provider info instead."""
        return {name.replace("-", "_"): value for name, value in _declared()["ui-field-behaviour"].items()}


def _declared() -> dict[str, Any]:
    info: dict[str, Any] = get_provider_info()
    declared: dict[str, Any] = info["connection-types"][0]
    return declared


def _store_problem(client: TitanClient) -> str:
    """A Titan master acknowledges writes while its store is down, so only reading back proves anything."""
    written = secrets.token_hex(8)
    client.store_put("titan:airflow:test_connection", written)
    if client.store_get("titan:airflow:test_connection") == written:
        return ""
    return "but its store lost a value written a moment ago; start or repair TitanStore, results need it"


def _describe_workers(stats: ClusterStats) -> str:
    if not stats.workers:
        return "no workers, so every job would wait; start one"
    tags = ", ".join(f"{tag} {count}" for tag, count in sorted(stats.tags.items()))
    plural = "" if len(stats.workers) == 1 else "s"
    return f"{len(stats.workers)} worker{plural} ({tags})"
