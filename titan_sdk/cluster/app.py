"""One running master: its start, drain and stop, for ``LocalCluster`` and for ``titan up``."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
from collections.abc import Callable, Coroutine
from importlib import metadata
from pathlib import Path
from typing import Any

from titan_sdk.cluster import stats
from titan_sdk.cluster.disk import advice
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.master.ray_front import JobsDoor
from titan_sdk.cluster.master.recovery import recover
from titan_sdk.cluster.requests.opcode_table import Requests
from titan_sdk.cluster.retention import Housekeeping
from titan_sdk.cluster.server.metrics import MetricsServer
from titan_sdk.cluster.server.server import Server
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.storage import Storage, open_storage
from titan_sdk.errors import TitanError

__all__ = ["App", "run_master", "sdk_version"]

log = logging.getLogger(__name__)


def _jobs_socket(settings: ClusterSettings, data: DataDir) -> Path | None:
    """The Unix socket by which local jobs reach every master of this folder. Without it they need the master's port."""
    if settings.engine != "process" and not settings.is_protected:
        return None
    try:
        return data.jobs_socket()
    except TitanError:
        if settings.is_protected:
            raise
        return None


def sdk_version() -> str:
    """The version of the installed distribution, or ``0`` if it is not installed."""
    try:
        return metadata.version("airflow-provider-titan")
    except metadata.PackageNotFoundError:
        return "0"


class App:
    """A running master. Started and stopped in the loop that runs it.

    Args:
        is_temporary: whether no later master will use the folder. Jobs then end with this process, even if it is
            killed; otherwise they go on for the next master.
    """

    def __init__(self, settings: ClusterSettings, version: str, *, is_temporary: bool = False) -> None:
        self._settings = settings
        self._is_temporary = is_temporary
        self._version = version
        self._data: DataDir | None = None
        self._storage: Storage | None = None
        self._master: Master | None = None
        self._server: Server | None = None
        self._housekeeping: Housekeeping | None = None
        self._metrics: MetricsServer | None = None
        self._last_handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Set with the reason when another master has taken over: this one must stop without ending jobs."""
        self.metrics_address: tuple[str, int] | None = None
        """The address of metrics and health check, after a start with a metrics port."""

    async def start(self) -> tuple[str, int]:
        """Lock the folder, recover its state, and serve. Returns the address for jobs and local clients.

        Raises:
            TitanError: the folder or the port cannot be used.
        """
        settings = self._settings
        data = self._data = DataDir(settings.data_dir, synced=settings.is_synced)
        try:
            server = self._server = Server(settings)
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
            storage = self._storage = await open_storage(
                settings, data, jobs_write_here=settings.engine == "process"
            )
            storage.store.on_lost(self._lose)
            door = None if settings.ray is None else self._jobs_door(settings.ray, address)
            master = self._master = Master(
                settings, data, storage, address, socket_path, door, is_temporary=self._is_temporary
            )
            loop = asyncio.get_running_loop()
            self._last_handler = loop.get_exception_handler()
            loop.set_exception_handler(self._on_unexpected)
            requests = Requests(master, self._version)
            recover(master)
            if settings.ray is not None:
                await server.serve(
                    requests.answer, requests.sentence
                )  # the Ray cluster connects during ``open``
            await master.engine.open()
            self._housekeeping = Housekeeping(master)
            if settings.metrics_port is not None:
                exporter = self._metrics = MetricsServer(
                    server, lambda: stats.health(master), lambda: stats.collect(master)
                )
                self.metrics_address = await exporter.start(settings.metrics_host, settings.metrics_port)
            self._housekeeping.start()
            await server.serve(requests.answer, requests.sentence)
            log.info("serving on %s:%d", *address, extra={"data_dir": str(settings.data_dir)})
        except OSError as exc:
            await self.stop()
            if isinstance(exc, TitanError):
                raise  # it already has a sentence about the missing file
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
            self._server.access.admit_jobs(token)
        certificate = None if tls is None else Path(tls.cert).read_text("ascii", "replace")
        return JobsDoor(host, port or address[1], token, certificate)

    async def drain(self) -> None:
        """Accept no more jobs, and wait for running ones, up to the settings' time. Other requests are answered."""
        if self._master is not None:
            log.info("draining")
            await self._master.drain(self._settings.drain_seconds)

    def _on_unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Report an unhandled error of a task or callback of this loop."""
        exc = context.get("exception") or RuntimeError(context["message"])
        if self._master is not None:
            self._master.state.problems.report(f"unexpected: {context['message']}", exc)
        else:
            loop.default_exception_handler(context)

    def _lose(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)

    async def stop(self) -> None:
        """Stop accepting, end every job and service, store all changes, and unlock the folder.

        If the store was lost to another master, jobs and services go on under that master.
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
        elif self._storage is not None:
            await self._storage.store.close()
        if self._data is not None:
            self._data.release()
        log.info("stopped")
        self._server = self._master = self._data = self._housekeeping = self._metrics = self._storage = None


def run_master(
    settings: ClusterSettings,
    on_ready: Callable[[str, int], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT. Then end jobs and services, store all changes, and return 0.

    With ``drain_seconds`` running jobs may end first, until a second signal. Jobs that were stopped are queued again by the
    next master of the folder.

    Args:
        on_ready: called with host and port once clients can connect.
        on_stop: called after the first signal, before any job is stopped.

    Raises:
        TitanError: the folder, port or store cannot be used, or another master has taken the store over.
    """
    return asyncio.run(_serve(settings, on_ready, on_stop))


async def _serve(
    settings: ClusterSettings,
    on_ready: Callable[[str, int], None] | None,
    on_stop: Callable[[], None] | None,
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = App(settings, sdk_version())
    host, port = await app.start()
    try:
        if on_ready is not None:
            on_ready(host, port)
        await _whichever(_set(stop), _done(app.lost))
        if on_stop is not None and stop.is_set():
            on_stop()
        if settings.drain_seconds and not app.lost.done():
            stop.clear()
            await _whichever(app.drain(), _set(stop))
    finally:
        await app.stop()
    if app.lost.done():
        raise TitanError(f"{app.lost.result()}; this master has stopped, and left what ran to the other one")
    return 0


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _done(future: asyncio.Future[str]) -> None:
    await asyncio.wait([future])


async def _whichever(*ways: Coroutine[None, None, object]) -> None:
    """Wait for the first of these coroutines, and cancel the others."""
    tasks = [asyncio.create_task(way) for way in ways]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
