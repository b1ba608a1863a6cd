"""One running master: data directory, state, port. What ``LocalCluster`` and ``titan up`` have in common."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from titan_sdk.cluster import metrics
from titan_sdk.cluster.backing import Backing, open_backing
from titan_sdk.cluster.disk import advice
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.master import Master
from titan_sdk.cluster.ray_front import JobsDoor
from titan_sdk.cluster.recovery import recover
from titan_sdk.cluster.requests.table import Answered, Requests
from titan_sdk.cluster.retention import Housekeeping
from titan_sdk.cluster.server.metrics import MetricsServer
from titan_sdk.cluster.server.server import Server
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.errors import TitanError
from titan_sdk.wire.frames import Frame

__all__ = ["Node"]

log = logging.getLogger(__name__)


def _jobs_socket(settings: ClusterSettings, data: DataDir) -> Path | None:
    """Where the jobs of this machine reach every master of this folder; without it they must know its port."""
    if settings.engine != "process" and not settings.is_protected:
        return None
    try:
        return data.jobs_socket()
    except TitanError:
        if settings.is_protected:
            raise
        return None


class Node:
    """Start it, and stop it, in the loop that runs it."""

    def __init__(self, settings: ClusterSettings, version: str) -> None:
        self._settings = settings
        self._version = version
        self._data: DataDir | None = None
        self._backing: Backing | None = None
        self._master: Master | None = None
        self._server: Server | None = None
        self._housekeeping: Housekeeping | None = None
        self._metrics: MetricsServer | None = None
        self._last_handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why this master must stop without ending anything: another one has taken over."""
        self.metrics_address: tuple[str, int] | None = None
        """Where metrics and the health check are, once started with a metrics port."""

    async def start(self) -> tuple[str, int]:
        """Take the folder, recover its state, serve; the address that jobs and local clients use.

        Raises:
            TitanError: the folder or the port cannot be used.
        """
        settings = self._settings
        data = self._data = DataDir(settings.data_dir)
        try:
            server = self._server = Server(settings, self._answer)
            socket_path = _jobs_socket(settings, data)
            try:
                host, port = await server.listen()
                if socket_path is not None:
                    await server.listen_locally(socket_path)
            except OSError as exc:
                raise TitanError(
                    f"cannot listen on {settings.host}:{settings.port}: {exc.strerror or exc}; "
                    "stop what uses it, or give another port (0 for any free one)"
                ) from exc
            address = ("127.0.0.1" if host in {"0.0.0.0", "::"} else host, port)
            backing = self._backing = await open_backing(
                settings, data, jobs_write_here=settings.engine == "process"
            )
            backing.store.on_lost(self._lose)
            door = None if settings.ray is None else self._jobs_door(settings.ray, address)
            master = self._master = Master(settings, data, backing, address, socket_path, door)
            loop = asyncio.get_running_loop()
            self._last_handler = loop.get_exception_handler()
            loop.set_exception_handler(self._on_unexpected)
            self._requests = Requests(master, self._version)
            recover(master)
            if settings.ray is not None:
                await server.serve()  # the cluster dials in
            await master.engine.open()
            self._housekeeping = Housekeeping(master)
            if settings.metrics_port is not None:
                exporter = self._metrics = MetricsServer(
                    server, lambda: metrics.health(master), lambda: metrics.collect(master)
                )
                self.metrics_address = await exporter.start(settings.metrics_host, settings.metrics_port)
            self._housekeeping.start()
            await server.serve()
            log.info("serving on %s:%d", *address, extra={"data_dir": str(settings.data_dir)})
        except OSError as exc:
            await self.stop()
            if isinstance(exc, TitanError):
                raise  # a setting that names a missing file says so itself
            root = settings.data_dir
            raise TitanError(f"cannot start a master in {root}: {exc}; {advice(exc, root)}") from exc
        except BaseException:
            await self.stop()
            raise
        return address

    def _jobs_door(self, ray: RaySettings, address: tuple[str, int]) -> JobsDoor:
        assert self._server is not None
        host, port = ray.advertise or (address[0], 0)
        tls, token = self._settings.tls, None
        if self._settings.token is not None:
            token = secrets.token_hex(32)
            self._server.gate.admit_jobs(token)
        certificate = None if tls is None else Path(tls.cert).read_text("ascii", "replace")
        return JobsDoor(host, port or address[1], token, certificate)

    def _answer(self, frame: Frame) -> Answered:
        return self._requests.answer(frame)

    async def drain(self) -> None:
        """Take no more jobs, and wait for those that run as long as the settings say; everything else is answered."""
        if self._master is not None:
            log.info("draining")
            await self._master.drain(self._settings.drain_seconds)

    def _on_unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A task or a callback of this loop has failed in a way that nobody who began it deals with."""
        exc = context.get("exception") or RuntimeError(context["message"])
        if self._master is not None:
            self._master.state.problems.report(f"unexpected: {context['message']}", exc)
        else:
            loop.default_exception_handler(context)

    def _lose(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)

    async def stop(self) -> None:
        """Accept nothing more, end every job and service, store everything, give the folder back.

        Once the store is lost, jobs and services go on: they are another master's.
        """
        if self._master is not None:
            asyncio.get_running_loop().set_exception_handler(self._last_handler)
        if self._housekeeping is not None:
            await self._housekeeping.stop()
        if self._metrics is not None:
            await self._metrics.stop()
        if self._master is not None and not self.lost.done():
            await self._master.end_runs()
        if self._server is not None:
            self._server.stop_accepting()
            if self._master is not None:
                self._master.state.waiters.close()
            await self._server.close()
        if self._master is not None and self.lost.done():
            await self._master.abandon()
        elif self._master is not None:
            await self._master.close()
        elif self._backing is not None:
            await self._backing.store.close()
        if self._data is not None:
            self._data.release()
        log.info("stopped")
        self._server = self._master = self._data = self._housekeeping = self._metrics = self._backing = None
