"""Requests, values, files and waiters of the bundled master, against bytes that go to another process and back."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.frame import Figure, Rounds, seconds, timed
from benchmarks.masters import Bundled, bundled, dag, noop, slots
from benchmarks.peers import installed, start
from titan_sdk import TitanClient, TitanJob

TURNS = 5
WAITS = 40
"""Of one turn."""
FILE_MIB = 64
GROWTH_MIB = 256
"""Of the file whose upload must not need its size in memory."""
CLIENTS = 16
ONE = "puts by one client"
JOBS = 500

_HEAD = struct.Struct(">qq?")
_PEER = """
import socket, struct, sys, tempfile
head = struct.Struct(">qq?")
with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryFile() as file:
    print(server.getsockname()[1], flush=True)
    connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while first := connection.recv(head.size, socket.MSG_WAITALL):
        asked, answered, kept = head.unpack(first)
        file.seek(0)
        while asked and (data := connection.recv(min(asked, 2**20))):
            asked -= len(data)
            if kept:
                file.write(data)
        connection.sendall(bytes(answered))
"""
"""Takes so many bytes, writes them down or not, and sends so many back."""
_UPLOAD = """
import pathlib, sys
from titan_sdk import TitanClient
def peak():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
with TitanClient(sys.argv[1], int(sys.argv[2])) as client:
    client.store_put("k", "v")
    before = peak()
    client.upload_file(sys.argv[3])
    print(peak() - before)
"""


def run(scale: float) -> Iterator[Figure]:
    with (
        tempfile.TemporaryDirectory(prefix="titan-bench-") as name,
        bundled("--workers", "GENERAL=1") as master,
        _bare() as bare,
    ):
        folder, client = Path(name), master.client
        yield from _calls(scale, client, bare)
        yield from _files(scale, client, folder, bare)
        yield _growth(scale, client, folder)
        yield from _waiter(scale, client, folder)
    yield from _stores(scale)


@contextlib.contextmanager
def _bare() -> Iterator[Callable[..., bytes]]:
    """Sends bytes to a process and takes its answer."""
    with subprocess.Popen([sys.executable, "-c", _PEER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def ask(data: bytes, answered: int, *, kept: bool = False) -> bytes:
                connection.sendall(_HEAD.pack(len(data), answered, kept) + data)
                return connection.recv(answered, socket.MSG_WAITALL)

            yield ask


def _calls(scale: float, client: TitanClient, bare: Callable[..., bytes]) -> Iterator[Figure]:
    small, large = 100, 2**20
    kinds: dict[str, tuple[Callable[[], object], int, int, str]] = {
        "a status call": (lambda: client.get_job_status("DAG-none"), small, small, "value <= 0.3"),
        "put 100 B": (lambda: client.store_put("small", "v" * small), small, small, ""),
        "get 100 B": (lambda: client.store_get("small"), small, small, ""),
        "put 1 MiB": (lambda: client.store_put("large", "v" * large), large, small, ""),
        "get 1 MiB": (lambda: client.store_get("large"), small, large, ""),
    }
    rounds = Rounds()
    for _ in range(TURNS):
        for what, (call, sent, answered, _) in kinds.items():
            rounds.note(what, seconds(call, 0.5 * scale) * 1e3)
            rounds.note(f"bare {what}", seconds(partial(bare, bytes(sent), answered), 0.2 * scale) * 1e3)
    for what, (*_, ceiling) in kinds.items():
        yield rounds.figure(what, "ms", what, f"bare {what}", "an echo", ceiling)


def _files(scale: float, client: TitanClient, folder: Path, bare: Callable[..., bytes]) -> Iterator[Figure]:
    size = int(FILE_MIB * scale) * 2**20
    path, back, rounds = folder / "file.bin", folder / "back.bin", Rounds()
    path.write_bytes(bytes(size))
    for _ in range(TURNS):
        rounds.note("up", timed(lambda: client.upload_file(path)))
        rounds.note("down", timed(lambda: client.fetch_artifact(path.name, back)))
        rounds.note("bare up", timed(lambda: bare(path.read_bytes(), 8, kept=True)))
        rounds.note("bare down", timed(lambda: back.write_bytes(bare(b"", size))))
    for way in ("up", "down"):
        title = f"a file of {size // 2**20} MiB {way}"
        yield rounds.figure(title, "s", way, f"bare {way}", "a socket and a file")


def _growth(scale: float, client: TitanClient, folder: Path) -> Figure:
    size = int(GROWTH_MIB * scale)
    path = folder / "growth.bin"
    with path.open("wb") as file:
        file.truncate(size * 2**20)
    address = [client.config.host, str(client.config.port)]
    done = subprocess.run(
        [sys.executable, "-c", _UPLOAD, *address, str(path)], stdout=subprocess.PIPE, text=True, check=True
    )
    title = f"memory of a client that uploads {size} MiB"
    return Figure(title, float(done.stdout), "MiB", ceiling="value <= 64" if size > 64 else "")


def _waiter(scale: float, client: TitanClient, folder: Path) -> Iterator[Figure]:
    """From the job's last statement, so the end of its interpreter is in it."""
    left, script = folder / "ended", folder / "last.py"
    lines = (
        "import os, pathlib, time",
        f"pathlib.Path({str(left)!r}).write_text(str(time.time()))",
        "os._exit(0)",
    )
    script.write_text("\n".join(lines), encoding="utf-8")
    rounds = Rounds()

    def heard(action: Callable[[], object]) -> float:
        action()
        return (time.time() - float(left.read_text(encoding="ascii"))) * 1e3

    def wait(runtime: bool) -> object:
        name = f"w{time.monotonic_ns()}"
        return client.submit_job(TitanJob(name, str(script), runtime=runtime)).wait()

    for _ in range(int(WAITS * TURNS * scale)):
        rounds.note("bare", heard(lambda: start(str(script))))
        rounds.note("plain", heard(lambda: wait(False)))
        rounds.note("default", heard(lambda: wait(True)))
    for kind in ("plain", "default"):
        title = f"a waiter hears of a {kind} job's end"
        yield rounds.figure(title, "ms", kind, "bare", "subprocess.run", "value <= 20")
    yield Figure("the same of a plain job, 99th percentile", rounds.p99("plain"), "ms")


# ---------------------------------------------------------------------- where the state is


def _stores(scale: float) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="titan-bench-") as folder:
        script = noop(Path(folder))
        with bundled("--workers", "GENERAL=1", "--slots", str(slots())) as master:
            sqlite = _measure(scale, master, script)
        for what, value in sqlite.items():
            yield Figure(f"{what}, SQLite", value, "/s")
        if not installed("redis") or shutil.which("redis-server") is None:
            return
        from tests.support.redis_server import RedisServer

        for fsync in ("everysec", "always"):
            server = RedisServer(Path(folder) / fsync).start("--appendfsync", fsync)
            try:
                yield from _on_redis(scale, server, fsync, script, sqlite)
            finally:
                server.stop()


def _on_redis(scale: float, server, fsync: str, script: Path, sqlite: dict[str, float]) -> Iterator[Figure]:  # type: ignore[no-untyped-def]
    import redis

    with redis.Redis.from_url(server.url) as direct:
        bare = 1 / seconds(lambda: direct.set("bare", "x" * 100), scale)
        with bundled("--workers", "GENERAL=1", "--slots", str(slots()), "--store", server.url) as master:
            found = _measure(scale, master, script)
            before = direct.info("memory")["used_memory_dataset"]
            count = int(JOBS * scale)
            _jobs(master.client, script, count)
            kept = (direct.info("memory")["used_memory_dataset"] - before) / count
    for what, value in found.items():
        against, other = ("Redis's own SET", bare) if what == ONE else ("SQLite", sqlite[what])
        yield Figure(f"{what}, Redis {fsync}", value, "/s", against, other, value / other)
    yield Figure(f"Redis's memory for a finished job, {fsync}", kept, "bytes")


def _measure(scale: float, master: Bundled, script: Path) -> dict[str, float]:
    def put(key: str) -> float:
        return 1 / seconds(lambda: master.client.store_put(key, "x" * 100), scale)

    with ThreadPoolExecutor(CLIENTS) as pool:
        together = sum(pool.map(put, [f"k{number}" for number in range(CLIENTS)]))
    _jobs(master.client, script, 10)
    return {
        ONE: put("k"),
        f"puts by {CLIENTS} clients": together,
        "plain jobs": _jobs(master.client, script, int(JOBS * scale)),
    }


def _jobs(client: TitanClient, script: Path, count: int) -> float:
    """Per second."""
    name = f"s{time.monotonic_ns()}"
    jobs = dag(name, script, count, runtime=False)
    return count / timed(lambda: client.submit_dag(name, jobs).wait(timeout=600))
