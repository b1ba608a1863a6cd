"""A real redis-server of a test's own: on loopback, in a folder, killed and started again at will."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["RedisServer", "free_port", "need_redis"]

_SERVER = shutil.which("redis-server") or shutil.which("valkey-server")


def need_redis() -> None:
    """Skip, and say what is missing."""
    if _SERVER is None:
        pytest.skip("needs redis-server; `apt-get install redis-server` brings it")
    if importlib.util.find_spec("redis") is None:
        pytest.skip("needs the package redis; `pip install redis` brings it")


def free_port() -> int:
    """One on which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """Appends to its file and syncs with every command, so that nothing it acknowledged is lost."""

    def __init__(self, folder: Path, *options: str) -> None:
        need_redis()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *more: str) -> RedisServer:
        """Serve what is in the folder; returns when it answers."""
        for _ in range(50):
            if self._try_to_start(more):
                return self
            # Somebody's outgoing connection was given the port while nobody listened there.
            time.sleep(0.2)
        raise AssertionError((self.folder / "redis.log").read_text())

    def _try_to_start(self, more: tuple[str, ...]) -> bool:
        assert _SERVER is not None
        settings = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        settings += ["--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning"]
        log = (self.folder / "redis.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [_SERVER, *settings, *self._options, *more], stdout=log, stderr=log
            )
        while self._process.poll() is None:
            try:
                if b"PONG" in self.say("PING") or b"AUTH" in self.say("PING"):
                    return True
            except OSError:
                time.sleep(0.01)
        said = (self.folder / "redis.log").read_text()
        assert "Address already in use" in said[-2000:], said
        return False

    def say(self, *words: str) -> bytes:
        """One command; the reply as it travels."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            request = f"*{len(words)}\r\n" + "".join(f"${len(w.encode())}\r\n{w}\r\n" for w in words)
            connection.sendall(request.encode())
            return connection.recv(65536)

    def pause(self) -> None:
        """It answers nothing, and keeps every connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def losing(self) -> Iterator[None]:
        """What is written inside is acknowledged and lost: ``appendfsync everysec``, and a crash of the machine."""
        self.say("BGREWRITEAOF")
        # At its end it removes files.
        while b"aof_rewrite_in_progress:1" in self.say("INFO", "persistence"):
            time.sleep(0.01)
        sizes = {path: path.stat().st_size for path in self.folder.glob("appendonlydir/*.incr.aof")}
        yield
        self.kill()
        for path, size in sizes.items():
            if path.exists():
                os.truncate(path, size)
        self.start()

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        if self._process is not None:
            self.go_on()
            self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(120)
        self._process = None
