"""The client of a worker process: starts one, finds live ones, and sends requests. Belongs to a loop's thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import py_compile
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from titan_sdk.cluster.worker import protocol
from titan_sdk.cluster.worker.protocol import ENDED, MARK, StartRequest, decode, encode
from titan_sdk.runtime.bundle import runtime_files

__all__ = [
    "PREFIX",
    "EndKind",
    "RunEnd",
    "WorkerClient",
    "boot_id",
    "connect",
    "library_name",
    "python_as_found",
    "spawn",
]

PREFIX = "w"
"""Begins the name of a worker process's socket; its own name follows."""
_ANSWER_SECONDS = 30.0
"""Seconds for a process to answer ``hello``. A process that does not is suspended, or is no worker process."""
_RETRY_SECONDS = 1.0
_REAP_SECONDS = 10.0
_LAST_SECONDS = 5.0
_LIMIT = 64 * 1024 * 1024
_PEER = struct.Struct("iII")


class EndKind(Enum):
    """The kind of a run's end."""

    ENDED = "ended"
    FAILED = "failed"
    """It could not be started; ``errno`` and ``why`` say why."""
    UNKNOWN = "unknown"
    """It never began, and never will."""
    LOST = "lost"
    """The process was killed: whether the run began, and how it ended, is unknown."""


@dataclass(frozen=True, slots=True)
class RunEnd:
    how: EndKind
    code: int | None = None
    errno: int = 0
    why: str = ""


class WorkerClient:
    """A connection to a worker process.

    Attributes:
        name: the name of the process, which is never reused.
        pid: its process id.
        mark: its owner and name.
        runs: its runs at the connect, as ``hello`` returned them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name, self.pid, self.mark = path.name.removeprefix(PREFIX), 0, ""
        self.runs: list[dict[str, Any]] = []
        self.is_alive = True
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._known: dict[str, Mapping[str, str]] = {}
        self._waiting: dict[str, asyncio.Future[RunEnd]] = {}
        self._stopped: dict[str, bool] = {}

    # ------------------------------------------------------------------ words

    def start(self, start: StartRequest, environment: Mapping[str, str]) -> asyncio.Future[RunEnd]:
        """Start a run. The future gets its end. ``start.environment`` names the given environment."""
        if not self.is_alive:
            return _known(RunEnd(EndKind.LOST))
        if self._known.get(start.environment) != environment:
            self._known[start.environment] = dict(environment)
            self._send(do="environment", name=start.environment, values=dict(environment))
        waiting = self._wait(start.run)
        self._send(start=start)
        return waiting

    def follow(self, run: str) -> asyncio.Future[RunEnd]:
        """The end of a run that another master has started."""
        if not self.is_alive:
            return _known(RunEnd(EndKind.LOST))
        waiting = self._wait(run)
        self._send(do="follow", run=run)
        return waiting

    def stop(self, run: str, *, now: bool = False) -> None:
        """Stop a run: SIGTERM, and SIGKILL after its grace, or at once."""
        self._stopped[run] = now
        self._send(do="stop", run=run, now=now)

    def forget(self, run: str) -> None:
        """Its end is stored."""
        self._stopped.pop(run, None)
        self._send(do="forget", run=run)

    def _wait(self, run: str) -> asyncio.Future[RunEnd]:
        found = self._waiting.get(run)
        if found is None or found.done():
            found = self._waiting[run] = asyncio.get_running_loop().create_future()
        return found

    def _send(self, **message: Any) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(**message))

    # ------------------------------------------------------------------ the connection

    async def open(self, sock: socket.socket | None = None) -> None:
        """Connect, and read its runs.

        Raises:
            OSError: no process listens there, or another user's does.
            TimeoutError: it does not answer.
            ValueError: it is not a worker process.
        """
        if sock is None:
            sock = dial(self.path)
        peer = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if peer[1] != os.geteuid():
            sock.close()
            raise PermissionError(f"{self.path} is another user's")
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_LIMIT)
        try:
            writer.write(encode(do="hello", version=protocol.VERSION))
            async with asyncio.timeout(_ANSWER_SECONDS):
                line = await reader.readline()
            if not line:
                raise ConnectionResetError(f"the worker process at {self.path} has ended")
            told = decode(line)
            self.pid, self.mark, self.runs = int(told["pid"]), told["mark"], list(told["runs"])
        except BaseException:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            raise
        self._writer, self.is_alive = writer, True
        self._known.clear()
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._heard(decode(line))
        except (OSError, ValueError):
            pass
        await self._reconnect()

    def _heard(self, message: dict[str, Any]) -> None:
        waiting = self._waiting.pop(message.get("run", ""), None)
        if waiting is None or waiting.done():
            return
        how = EndKind(message["is"])
        waiting.set_result(
            RunEnd(how, message.get("code"), int(message.get("errno", 0)), message.get("why", ""))
        )

    async def _reconnect(self) -> None:
        """Connect again after a cut: the process has ended, or only the connection failed, as for lack of memory."""
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        while True:
            try:
                await self.open()
            except (ConnectionError, FileNotFoundError, ValueError):
                await self._die()
                return
            except OSError:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                break
        for run in self._waiting:
            self._send(do="follow", run=run)
            if run in self._stopped:
                self._send(do="stop", run=run, now=self._stopped[run])

    async def _die(self) -> None:
        self.is_alive = False
        await self.ended(_REAP_SECONDS)
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_result(RunEnd(EndKind.LOST))

    async def close(self) -> None:
        """Disconnect. The process ends after its last run, and reports no more ends here."""
        self.is_alive = False
        self._waiting.clear()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._writer is not None:
            writer, self._writer = self._writer, None
            # The written requests are sent first, unless the process is suspended.
            writer.close()
            try:
                async with asyncio.timeout(_LAST_SECONDS):
                    await writer.wait_closed()
            except TimeoutError:
                writer.transport.abort()
            except OSError:
                pass

    # ------------------------------------------------------------------ a process of ours

    def owns(self, process: subprocess.Popen[bytes]) -> None:
        """Record that the process is a child of this one, which reaps it."""
        self._process = process

    async def ended(self, seconds: float) -> None:
        """Wait for the end of a child process, and kill it if it is suspended."""
        if self._process is None:
            return
        try:
            await asyncio.to_thread(self._process.wait, seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            await asyncio.to_thread(self._process.wait)

    def abandon(self) -> None:
        """Stop watching the child process, which goes on."""
        if self._process is not None:
            # The process is deliberately not waited for; this silences the warning of ``Popen``.
            self._process.returncode = 0

    def kill(self) -> None:
        """Kill the process. Its guards end its runs."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def _known(end: RunEnd) -> asyncio.Future[RunEnd]:
    future: asyncio.Future[RunEnd] = asyncio.get_running_loop().create_future()
    future.set_result(end)
    return future


def dial(path: Path) -> socket.socket:
    """Connect to a Unix socket.

    Raises:
        OSError: no process listens there.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.connect(os.fspath(path))
    except BaseException:
        sock.close()
        raise
    return sock


async def connect(path: Path) -> WorkerClient | None:
    """The worker process behind a socket, or ``None`` if there is none.

    Raises:
        TimeoutError: a process is there, but does not answer.
    """
    worker = WorkerClient(path)
    try:
        await worker.open()
    except TimeoutError:
        raise
    except (OSError, ValueError):
        return None
    return worker


@functools.cache
def boot_id() -> str:
    """An id of the machine's present boot. Process ids are only meaningful together with it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def library_name(runtime: str) -> str:
    """The folder name of a launcher's library. It changes with each boot of the machine: the files are not synced, so a
    power cut may leave them empty.
    """
    return f"runtime-{runtime[:16]}-{boot_id()[:8]}"


def _state_folder(folder: Path, runtime: str) -> tuple[Path, Path]:
    """Create the files of a worker process. Returns its folder, and the launcher's library in it.

    Args:
        runtime: the launcher's content hash. Jobs keep the modules of their launcher, even if this version's files are
            replaced.

    Raises:
        OSError: the files cannot be created.
    """
    (folder / ENDED).mkdir(mode=0o700, parents=True, exist_ok=True)
    library = folder / library_name(runtime)
    if not library.is_dir():
        part = folder / f".part-{secrets.token_hex(4)}"
        try:
            for name, source in runtime_files().items():
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, part / name)
            for module in (part / "titan_runtime" / "lib").rglob("*.py"):
                # Compiled here, because a job's Python may be told to write no bytecode: compiling costs each job 6 ms.
                py_compile.compile(
                    str(module), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
                )
            with contextlib.suppress(FileExistsError):
                os.rename(part, library)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder, library


def python_as_found() -> str:
    """The path of this Python as a shell finds it, which a job's script may see."""
    path = Path(sys.executable).with_name("python3")
    return str(path) if path.exists() and path.samefile(sys.executable) else sys.executable


async def spawn(
    sockets: Path,
    owner: str,
    state: Path,
    runtime: str,
    environment: Mapping[str, str],
    *,
    orphan: bool = False,
) -> WorkerClient:
    """Start a worker process and connect to it. It outlives this one.

    Args:
        sockets: a folder that only this user can enter, with a path of at most 90 bytes.
        owner: the owner of the process. Its jobs carry the name, so that they are found if the process was killed.
        state: see ``_state_folder``.
        environment: the environment of the process and its launchers (``TITAN_RUNTIME_*``).
        orphan: whether it must not be a child of this process, whose children may be ended with it.

    Raises:
        OSError: no process can be started, or the disk is full.
        TimeoutError: it does not answer.
    """
    state, library = await asyncio.to_thread(_state_folder, state, runtime)
    name = secrets.token_hex(4)
    worker = WorkerClient(sockets / f"{PREFIX}{name}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(worker.path))
        listener.listen(128)
        # Connect before it runs: it ends when its last client disconnects.
        first = dial(worker.path)
        try:
            process = _begin(
                [
                    str(listener.fileno()),
                    name,
                    os.fspath(state),
                    os.fspath(library),
                    *(["orphan"] if orphan else []),
                ],
                {**environment, MARK: f"{owner}.{name}"},
                listener.fileno(),
            )
        except BaseException:
            first.close()
            worker.path.unlink(missing_ok=True)
            raise
    if orphan:
        await asyncio.to_thread(process.wait)
    else:
        worker.owns(process)
    try:
        await worker.open(first)
    except BaseException:
        process.kill()  # an orphan ends by itself
        process.wait()
        worker.path.unlink(missing_ok=True)
        raise
    return worker


def _begin(arguments: list[str], environment: Mapping[str, str], listener: int) -> subprocess.Popen[bytes]:
    program = os.fspath(Path(__file__).with_name("bootstrap.py"))
    return subprocess.Popen(
        [python_as_found(), "-I", "-S", program, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[listener],
        start_new_session=True,
        cwd="/",
    )
