"""A Ray worker process's connection to the worker process of its node, which runs the jobs as on one machine."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from titan_sdk.cluster.engines.ray.inside.node.places import NodePlaces
from titan_sdk.cluster.worker import protocol
from titan_sdk.cluster.worker.client import python_as_found
from titan_sdk.cluster.worker.protocol import Start, decode, encode
from titan_sdk.runtime.bundle import runtime_bundle

__all__ = ["NodeWorker"]

_SECONDS = 30.0
_STARTER = "titan_sdk.cluster.engines.ray.inside.node.start_worker"
_SETTINGS = "TITAN_RUNTIME_"


class NodeWorker:
    """One run at a time, ``held``: the worker process ends it when this process is gone."""

    def __init__(self, places: NodePlaces) -> None:
        self._places = places
        self._sock: socket.socket | None = None
        self._key = ""
        self._environment: Mapping[str, str] = {}
        self._unread = b""

    def fileno(self) -> int:
        assert self._sock is not None
        return self._sock.fileno()

    def may_fork(self, environment: Mapping[str, str]) -> bool:
        """Whether the launcher that the process has loaded meets what a shell would start for the job."""
        found = shutil.which("python3", path=environment.get("PATH"))
        return found is not None and found == python_as_found() and "BASH_ENV" not in environment

    def start(self, start: Start, environment: Mapping[str, str]) -> None:
        """Start a run; ``end`` tells how it ended.

        Raises:
            OSError: there is no worker process, and none can be started.
        """
        key = _key(environment)
        if self._sock is None or key != self._key:
            self.close()
            self._sock, self._key = self._connect(key, environment), key
            self._environment = {}
        if environment != self._environment:
            self._environment = dict(environment)
            self._send(do="environment", name=start.environment, values=self._environment)
        self._send(start=start)

    def stop(self, run: str) -> None:
        """SIGTERM, and after the run's grace SIGKILL."""
        with contextlib.suppress(OSError):
            self._send(do="stop", run=run)

    def end(self, run: str) -> dict[str, Any] | None:
        """How the run ended, if that is what there is to read.

        Raises:
            ConnectionError: the worker process is gone.
        """
        assert self._sock is not None
        data = self._sock.recv(1 << 16)
        if not data:
            self.close()
            raise ConnectionResetError("the worker process of this node is gone")
        *lines, self._unread = (self._unread + data).split(b"\n")
        for message in map(decode, lines):
            if message.get("run") == run and message["is"] in {"ended", "failed"}:
                self._send(do="forget", run=run)
                return message
        return None

    def close(self) -> None:
        """A run that is left is ended."""
        if self._sock is not None:
            self._sock.close()
        self._sock, self._unread = None, b""

    def _send(self, **message: Any) -> None:
        assert self._sock is not None
        self._sock.sendall(encode(**message))

    # ------------------------------------------------------------------ finding it

    def _connect(self, key: str, environment: Mapping[str, str]) -> socket.socket:
        """To the process that the first run started; one for all of the node's runs with these settings."""
        with self._only_one(key) as file:
            sock = _dial(file.read_text("utf-8")) if file.exists() else None
            return sock or self._spawn(file, environment)

    @contextlib.contextmanager
    def _only_one(self, key: str) -> Iterator[Path]:
        """The file that names the socket, while no other process looks for it."""
        file = self._places.root / f"worker-{key}"
        lock = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(lock)

    def _spawn(self, file: Path, environment: Mapping[str, str]) -> socket.socket:
        """By a process in between: Ray ends the children of its own that end."""
        words = [os.fspath(self._places.sockets), self._places.root.name, os.fspath(self._places.root)]
        starter = subprocess.Popen(
            [sys.executable, "-m", _STARTER, *words, runtime_bundle().sha256],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert starter.stdin is not None
        assert starter.stdout is not None
        try:
            path = starter.stdout.readline().strip()
            sock = _dial(path)
            if sock is None:
                raise OSError("the worker process of this node could not be started")
            file.write_text(path, "utf-8")
            return sock
        finally:
            starter.stdin.close()
            starter.stdout.close()
            starter.wait()


def _key(environment: Mapping[str, str]) -> str:
    """What makes a worker process another one: its launcher, and what a launcher reads of its environment."""
    settings = sorted(item for item in environment.items() if item[0].startswith(_SETTINGS))
    return hashlib.sha256(repr((runtime_bundle().sha256, protocol.VERSION, settings)).encode()).hexdigest()[
        :12
    ]


def _dial(path: str) -> socket.socket | None:
    """A connection that the process has taken; it may be about to end, as nobody else was connected."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(_SECONDS)
        sock.connect(path)
        sock.sendall(encode(do="hello", version=protocol.VERSION))
        told = b""
        while not told.endswith(b"\n"):
            piece = sock.recv(1 << 16)
            if not piece:
                raise ConnectionResetError
            told += piece
    except OSError:
        sock.close()
        return None
    return sock
