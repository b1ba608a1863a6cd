"""The worker processes of one data directory: the one that this master starts runs in, and those of earlier masters.

A master starts runs in its own worker process, so that they have its environment and its version. The worker processes of
earlier masters keep their runs until these have ended.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from titan_sdk.cluster.folders import socket_folder
from titan_sdk.cluster.worker import protocol
from titan_sdk.cluster.worker.client import (
    PREFIX,
    EndKind,
    RunEnd,
    WorkerClient,
    boot_id,
    connect,
    library_name,
    spawn,
)
from titan_sdk.cluster.worker.protocol import ENDED, MARK, RUN_MARK, name_of
from titan_sdk.runtime.worker import processes

__all__ = ["FOREIGN", "LocalWorkers", "RunHandle", "boot_id", "end_run"]

log = logging.getLogger(__name__)

_FOLDER = "machine"
"""The folder in the data directory with the files that outlive worker processes."""
_KIND = "worker"
"""The beginning of a handle."""
_LOOK_SECONDS = 0.1
_END_SECONDS = 10.0
FOREIGN = RunEnd(EndKind.UNKNOWN, why="foreign")
"""The end of a run that belongs to another master, which may continue it."""


def _owner_of(root: Path) -> str:
    """A name of a data directory that a copy does not share, because it contains an inode number. Empty if it has none."""
    path = root / _FOLDER / "owner"
    try:
        found = path.stat()
        return f"{path.read_text('ascii')}-{found.st_dev:x}-{found.st_ino:x}"
    except (OSError, ValueError):
        return ""


@dataclass(frozen=True, slots=True)
class RunHandle:
    """Finds a run's worker process after a restart of the master."""

    worker: str
    boot: str
    owner: str
    root: str
    """The data directory at the time."""

    def __str__(self) -> str:
        return f"{_KIND}:{self.worker}:{self.boot}:{self.owner}:{self.root}"

    @classmethod
    def of(cls, text: str) -> RunHandle | None:
        """The handle of a text; ``None`` for a handle of a version without worker processes."""
        kind, *rest = text.split(":", 4)
        return cls(*rest) if kind == _KIND and len(rest) == 4 else None


class LocalWorkers:
    """The worker processes of this data directory. Belongs to the loop's thread.

    Args:
        root: the data directory.
        runtime: the content hash of the launcher that the process loads.
        environment: the environment of the worker process.
        shared: whether the store is outside the data directory, so that the last master may have used another directory.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(
        self, root: Path, runtime: str, environment: Callable[[], Mapping[str, str]], *, shared: bool
    ) -> None:
        self._root = root = root.absolute()
        self._runtime, self._environment, self._shared = runtime, environment, shared
        self._state = root / _FOLDER
        self._ended = self._state / ENDED
        self._ended.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owner = _owner_of(root)
        if not self._owner:
            part = self._state / ".owner"
            part.write_text(secrets.token_hex(8), "ascii")
            os.replace(part, self._state / "owner")
            self._owner = _owner_of(root)
        self._own: WorkerClient | None = None
        self._lost: list[WorkerClient] = []
        """This master's earlier worker processes that have died. Their remaining runs are still awaited."""
        self._spawning: asyncio.Task[WorkerClient] | None = None
        self._earlier: dict[str, WorkerClient] = {}
        self._found: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ this master's worker process

    async def worker(self) -> WorkerClient:
        """The process for new runs. Starts one if need be.

        Raises:
            OSError: no process can be started.
            TimeoutError: it does not answer.
            TitanError: there is no folder for its socket.
        """
        if self._own is None or not self._own.is_alive:
            if self._own is not None:
                self._lost.append(self._own)
                self._own = None
            if self._spawning is None or self._spawning.done():
                sockets = socket_folder(self._root)
                self._spawning = asyncio.create_task(
                    spawn(sockets, self._owner, self._state, self._runtime, self._environment())
                )
            # If this run is cancelled, the process stays for the next run, or for ``close``.
            self._own = await asyncio.shield(self._spawning)
        return self._own

    def handle(self, worker: WorkerClient) -> str:
        """The handle of a run in this process."""
        return str(RunHandle(worker.name, boot_id(), self._owner, str(self._root)))

    # ------------------------------------------------------------------ runs of earlier masters

    async def follow(
        self, handle: RunHandle, run: str
    ) -> tuple[WorkerClient | None, RunEnd | asyncio.Future[RunEnd]]:
        """The process with the run, and a future of its end. Without such a process: the stored end, or an unknown one."""
        await self._find()
        if handle.boot == boot_id() and handle.owner != self._owner:
            if not self._shared:
                if await asyncio.to_thread(self._is_foreign, handle):
                    return None, FOREIGN
            elif handle.worker not in self._earlier:
                await self._find_in(Path(handle.root), handle.owner)
        worker = self._earlier.get(handle.worker)
        if worker is not None and worker.is_alive:
            return worker, worker.follow(run)
        folder = str(Path(handle.root) / _FOLDER / ENDED if self._is_elsewhere(handle) else self._ended)
        is_there, code = protocol.ended_code(folder, run)
        if is_there:
            return None, RunEnd(EndKind.ENDED, code)
        if handle.boot == boot_id() and protocol.ended_code(folder, handle.worker)[0]:
            return None, RunEnd(EndKind.UNKNOWN)
        return None, RunEnd(EndKind.LOST)

    def _is_elsewhere(self, handle: RunHandle) -> bool:
        return self._shared and handle.owner != self._owner

    def _is_foreign(self, handle: RunHandle) -> bool:
        """Whether this data directory is a copy of the run's directory. A directory that was moved from another file system
        has no original, but a process of the run may still write there.
        """
        if _owner_of(Path(handle.root)) == handle.owner:
            return True
        mark = f"{handle.owner}.{handle.worker}"
        return bool(processes.find(functools.partial(_has, MARK, mark), MARK))

    async def _find(self) -> None:
        """Connect to every live worker process, once."""
        if self._found is None:
            self._found = asyncio.create_task(self._find_in(self._root, self._owner))
        await asyncio.shield(self._found)

    async def _find_in(self, root: Path, owner: str) -> None:
        for path in _sockets(root):
            try:
                worker = await connect(path)
            except TimeoutError:
                log.error("a worker process does not answer; it is killed, and so are its jobs: %s", path)
                mark = f"{owner}.{path.name.removeprefix(PREFIX)}"
                await asyncio.to_thread(processes.end, functools.partial(_has, MARK, mark), MARK)
                worker = None
            if worker is None:
                path.unlink(missing_ok=True)
            elif worker.mark == f"{owner}.{worker.name}":
                self._earlier[worker.name] = worker
            else:
                await worker.close()  # it belongs to another folder that had the same inode number

    async def tidy(self, runs: Collection[str], handles: Collection[str]) -> None:
        """End processes of this data directory without a live worker process, and remove files that are not needed.

        Args:
            runs: the runs that are being followed. They end their own processes.
            handles: the handles of those runs.
        """
        await self._find()
        living = {worker.name for worker in self._all()}

        def is_left(marks: Mapping[str, str]) -> bool:
            owner, _, worker = marks.get(MARK, "").partition(".")
            is_ours = owner == self._owner and worker not in living
            return is_ours and RUN_MARK in marks and marks[RUN_MARK] not in runs

        await asyncio.to_thread(processes.end, is_left, MARK, RUN_MARK)
        told = {found.worker for text in handles if (found := RunHandle.of(text)) is not None}
        for path in (*self._ended.iterdir(), *self._state.glob("*.error")):
            if path.name.removesuffix(".error") not in {*runs, *told, *living}:
                path.unlink(missing_ok=True)
        if not self._earlier:
            for path in self._state.glob("runtime-*"):
                if path.name != library_name(self._runtime):
                    shutil.rmtree(path, ignore_errors=True)

    def forget(self, run: str) -> None:
        """Its end is stored."""
        protocol.remove_ended(str(self._ended), run)

    # ------------------------------------------------------------------ the end

    async def close(self) -> None:
        """End the worker processes. No run is left."""
        workers = await self._everyone()
        for worker in workers:
            await worker.close()
        for worker in workers:
            await worker.ended(_END_SECONDS)

    async def abandon(self) -> None:
        """Disconnect from all worker processes. Each ends after its last run."""
        for worker in await self._everyone():
            await worker.close()
            worker.abandon()

    async def _everyone(self) -> list[WorkerClient]:
        """All worker processes, including those that are being started or searched."""
        if self._spawning is not None:
            (made,) = await asyncio.gather(self._spawning, return_exceptions=True)
            if isinstance(made, WorkerClient):
                self._own = made
        if self._found is not None:
            await asyncio.gather(self._found, return_exceptions=True)
        return [*self._lost, *self._all()]

    def _all(self) -> list[WorkerClient]:
        return [*self._earlier.values(), *([] if self._own is None else [self._own])]


def _has(variable: str, value: str, marks: Mapping[str, str]) -> bool:
    return marks.get(variable) == value


def _sockets(root: Path) -> list[Path]:
    return sorted(socket_folder(root).glob(f"{PREFIX}[0-9a-f]*")) if root.is_dir() else []


async def end_run(run: str, patience: float) -> None:
    """End the processes of a run whose worker process is gone. Its guard has ``patience`` seconds to do it first."""
    names = (run, name_of(run))

    def is_meant(marks: Mapping[str, str]) -> bool:
        return (marks.get(RUN_MARK) or marks[""]) in names

    until = asyncio.get_running_loop().time() + patience
    while asyncio.get_running_loop().time() < until:
        if not await asyncio.to_thread(processes.find, is_meant, RUN_MARK):
            return
        await asyncio.sleep(_LOOK_SECONDS)
    await asyncio.to_thread(processes.end, is_meant, RUN_MARK)
