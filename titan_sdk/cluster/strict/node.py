"""A strict master with its workers and its store, as one thing that starts and stops."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.strict.dispatch import Dispatcher
from titan_sdk.cluster.strict.handlers import StrictHandlers
from titan_sdk.cluster.strict.master import StrictMaster
from titan_sdk.cluster.strict.processes import worker_environment
from titan_sdk.cluster.strict.server import StrictServer
from titan_sdk.cluster.strict.settings import StrictSettings
from titan_sdk.cluster.strict.store import StoreConfused, StoreServer
from titan_sdk.cluster.strict.worker import StrictWorker
from titan_sdk.errors import InvalidArgument, TitanError

__all__ = ["StrictControl", "StrictNode"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class StrictNode:
    """Start it, and stop it, in the loop that runs it. The store lives as long as the node, in memory."""

    def __init__(self, cluster: ClusterSettings, settings: StrictSettings) -> None:
        self.store = StoreServer()
        self.workers: list[StrictWorker] = []
        self._cluster = cluster
        self._settings = settings
        self._data: DataDir | None = None
        self._master: StrictMaster | None = None
        self._handlers: StrictHandlers | None = None
        self._server = StrictServer(self._answer)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> tuple[str, int]:
        """Serve; the address.

        Raises:
            TitanError: the folder or the port cannot be used.
        """
        data = self._data = DataDir(self._cluster.data_dir)
        try:
            environment = worker_environment(os.environ)
            for spec in self._cluster.worker_specs():
                workspace = data.workspace(spec.name)
                self.workers.append(StrictWorker(spec, workspace, self._settings, environment, self))
            self._begin(data)
            for worker in self.workers:
                self._register(worker)
            return await self._server.listen(self._cluster.host, self._cluster.port)
        except OSError as exc:
            await self.stop()
            raise TitanError(
                f"cannot listen on {self._cluster.host}:{self._cluster.port}: {exc.strerror or exc}; "
                "stop what uses it, or give another port (0 for any free one)"
            ) from exc

    async def stop(self) -> None:
        """End every job and service, and serve nothing more."""
        await self._server.close()
        await self._end()
        await asyncio.gather(*(asyncio.to_thread(worker.close) for worker in self.workers))
        if self._data is not None:
            self._data.release()
            self._data = None

    # ------------------------------------------------------------------ what a test may do to it

    async def restart(self) -> None:
        """The master forgets what is not in its store; its workers come back when they register next."""
        assert self._data is not None
        await self._end()
        self._begin(self._data)

    async def lose_worker(self, port: int) -> None:
        """Kill a worker with everything on it."""
        for worker in self.workers:
            if worker.spec.port == port:
                await asyncio.to_thread(worker.die)
                return
        known = ", ".join(str(worker.spec.port) for worker in self.workers)
        raise InvalidArgument(f"no worker has the port {port}; there are {known}")

    # ------------------------------------------------------------------ the workers' uplink

    def job_ended(self, job_id: str, status: str, result: str) -> None:
        """See ``Uplink``."""
        if self._master is not None:
            try:
                self._master.job_ended(job_id, status, result)
            except StoreConfused as exc:
                log.error("the end of %s is lost, as a real master would lose it: %s", job_id, exc)

    def log_batch(self, job_id: str, block: str) -> None:
        """See ``Uplink``."""
        if self._master is not None:
            self._master.log_batch(job_id, block)

    def service_gone(self, service_id: str) -> None:
        """See ``Uplink``."""
        if self._master is not None:
            self._master.service_gone(service_id)

    # ------------------------------------------------------------------ parts

    def _begin(self, data: DataDir) -> None:
        master = self._master = StrictMaster(self._settings, data, self.store, self.workers)
        self._handlers = StrictHandlers(master)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(Dispatcher(master).run()),
            loop.create_task(self._heartbeats(master)),
            *(loop.create_task(self._registrations(worker)) for worker in self.workers),
        ]

    async def _end(self) -> None:
        if self._master is not None:
            self._master.close()
            self._master = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, opcode: int, payload: str) -> str:
        assert self._handlers is not None
        return await self._handlers.answer(opcode, payload)

    def _register(self, worker: StrictWorker) -> None:
        if self._master is not None and worker.alive:
            self._master.registry.register(worker.spec.port, worker.spec.tag, permanent=True)

    async def _registrations(self, worker: StrictWorker) -> None:
        while worker.alive:
            await asyncio.sleep(self._settings.reregister)
            self._register(worker)

    async def _heartbeats(self, master: StrictMaster) -> None:
        """The master's belief of each worker's load is corrected here, and only here."""
        await asyncio.sleep(self._settings.first_heartbeat)
        while True:
            for entry in master.registry.all():
                if entry.worker is None or not entry.worker.alive:
                    master.registry.drop(entry.port)
                    continue
                entry.load = entry.worker.active
                try:
                    master.store.add("system:live_workers", f"127.0.0.1:{entry.port}")
                    master.store.put(f"worker:127.0.0.1:{entry.port}:load", str(entry.load))
                except StoreConfused as exc:
                    log.error("heartbeats have ended, as a real master's would: %s", exc)
                    return
            await asyncio.sleep(self._settings.heartbeat)


class StrictControl:
    """What a test may do to a strict cluster from outside: restart the master, stop its store, lose a worker."""

    def __init__(self, node: StrictNode, loop: asyncio.AbstractEventLoop) -> None:
        self._node = node
        self._loop = loop

    def restart(self) -> None:
        """Restart the master. Parents, retry counts, memory logs and live services are forgotten; unfinished jobs
        are queued without their parents, running ones run a second time; workers come back within
        ``StrictSettings.reregister`` seconds.
        """
        self._run(self._node.restart)

    def stop_store(self) -> None:
        """Take the store down: writes are answered OK and lost, reads answer nothing."""
        self._run(_soon(self._node.store.stop))

    def start_store(self) -> None:
        """Bring the store back with its values; sets are lost."""
        self._run(_soon(self._node.store.start))

    def lose_worker(self, port: int) -> None:
        """Kill a worker: its jobs stay RUNNING for ever, and the master notices at its next heartbeat.

        Raises:
            InvalidArgument: no worker has that port.
        """
        self._run(lambda: self._node.lose_worker(port))

    def _run(self, step: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            return await step()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()


def _soon(function: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        function()

    return call
