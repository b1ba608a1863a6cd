"""A strict master with its workers and its store, started and stopped together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.server.server import Server
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.errors import InvalidArgument, TitanError
from titan_sdk.strict.dispatch_loop import DispatchLoop
from titan_sdk.strict.master import StrictMaster
from titan_sdk.strict.processes import worker_environment
from titan_sdk.strict.registry import HOST
from titan_sdk.strict.requests import StrictRequests
from titan_sdk.strict.settings import StrictSettings
from titan_sdk.strict.store import StoreServer
from titan_sdk.strict.worker import StrictWorker
from titan_sdk.wire.frames import Frame

__all__ = ["StrictControl", "StrictNode"]


class StrictNode:
    """A strict cluster. Started and stopped in the loop that runs it. The store is in memory, as long as this object."""

    def __init__(self, cluster: ClusterSettings, settings: StrictSettings) -> None:
        self.store = StoreServer()
        self.workers: list[StrictWorker] = []
        self._cluster = cluster
        self._settings = settings
        self._data: DataDir | None = None
        self._master: StrictMaster | None = None
        self._requests: StrictRequests | None = None
        self._server: Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> tuple[str, int]:
        """Start serving, and return the address.

        Raises:
            TitanError: the folder or the port cannot be used.
        """
        data = self._data = DataDir(self._cluster.data_dir)
        try:
            environment = worker_environment(os.environ)
            for spec in self._cluster.worker_specs():
                workspace = data.workspace(spec.name)
                self.workers.append(
                    StrictWorker(spec, workspace, self._settings, environment, lambda: self._master)
                )
            self._begin(data)
            for worker in self.workers:
                self._register(worker)
            # A real master knows no HELLO, and serves one request per connection.
            server = self._server = Server(self._cluster, keeps=False)
            address = await server.listen()
            await server.serve(self._answer)
            return address
        except OSError as exc:
            await self.stop()
            raise TitanError(
                f"cannot listen on {self._cluster.host}:{self._cluster.port}: {exc.strerror or exc}; "
                "stop what uses it, or give another port (0 for any free one)"
            ) from exc

    async def stop(self) -> None:
        """End every job and service, and stop serving."""
        if self._server is not None:
            await self._server.close()
        await self._end()
        await asyncio.gather(*(worker.close() for worker in self.workers))
        if self._data is not None:
            self._data.release()
            self._data = None

    # ------------------------------------------------------------------ control by tests

    async def restart(self) -> None:
        """Restart the master: it loses all state outside its store. Workers come back when they register next."""
        assert self._data is not None
        await self._end()
        self._begin(self._data)

    def lose_worker(self, port: int) -> None:
        """Kill a worker with all its processes."""
        for worker in self.workers:
            if worker.spec.port == port:
                worker.die()
                return
        known = ", ".join(str(worker.spec.port) for worker in self.workers)
        raise InvalidArgument(f"no worker has the port {port}; there are {known}")

    # ------------------------------------------------------------------ parts

    def _begin(self, data: DataDir) -> None:
        master = self._master = StrictMaster(self._settings, data, self.store, self.workers)
        self._requests = StrictRequests(master)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(DispatchLoop(master).run()),
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

    def _answer(self, frame: Frame) -> str | Awaitable[str]:
        assert self._requests is not None
        return self._requests.answer(frame)

    def _register(self, worker: StrictWorker) -> None:
        if self._master is not None and worker.alive:
            self._master.registry.register(worker.spec.port, worker.spec.tag, permanent=True)

    async def _registrations(self, worker: StrictWorker) -> None:
        while worker.alive:
            await asyncio.sleep(self._settings.reregister)
            self._register(worker)

    async def _heartbeats(self, master: StrictMaster) -> None:
        """The heartbeats. Only they correct the master's count of each worker's load."""
        await asyncio.sleep(self._settings.first_heartbeat)
        while True:
            for entry in master.registry.all():
                if entry.worker is None or not entry.worker.alive:
                    master.registry.drop(entry.port)
                    continue
                entry.load = entry.worker.active
                master.store.add("system:live_workers", f"{HOST}:{entry.port}")
                master.store.put(f"worker:{HOST}:{entry.port}:load", str(entry.load))
            await asyncio.sleep(self._settings.heartbeat)


class StrictControl:
    """The control of a strict cluster by a test: restart the master, stop its store, lose a worker."""

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
        """Stop the store: writes are answered OK and lost, reads return nothing."""
        self._run(self._node.store.stop)

    def start_store(self) -> None:
        """Start the store again with its values. Sets are lost."""
        self._run(self._node.store.start)

    def lose_worker(self, port: int) -> None:
        """Kill a worker: its jobs stay RUNNING for ever, and the master notices at its next heartbeat.

        Raises:
            InvalidArgument: no worker has that port.
        """
        self._run(lambda: self._node.lose_worker(port))

    def _run(self, step: Callable[[], Awaitable[None] | None]) -> None:
        async def run() -> None:
            outcome = step()
            if outcome is not None:
                await outcome

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()
