"""The bundled master's state in SQLite and in Redis: what a value and a job cost, and what Redis keeps of a job."""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.frame import Options, Row, per_second
from benchmarks.jobs import noop
from benchmarks.masters import Bundled, bundled, slots
from tests.support.redis_server import RedisServer
from titan_sdk import TitanClient, TitanJob

GROUP = "store"
JOBS = 1000
ROUNDS = 3
CLIENTS = 16


def run(options: Options) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="titan-bench-") as folder:
        script = noop(Path(folder))
        base: dict[str, float] = {}
        for name, more in (("sqlite", None), ("redis, everysec", "everysec"), ("redis, always", "always")):
            if more is None:
                with bundled("--workers", "GENERAL=1", "--slots", slots()) as master:
                    base = _measure(options, master, script)
                    yield from (Row(GROUP, f"{what}: sqlite", value, "/s") for what, value in base.items())
                continue
            server = RedisServer(Path(folder) / more).start("--appendfsync", more)
            try:
                yield from _on_redis(options, name, server, script, base)
            finally:
                server.stop()


def _on_redis(
    options: Options, name: str, server: RedisServer, script: Path, base: dict[str, float]
) -> Iterator[Row]:
    with bundled("--workers", "GENERAL=1", "--slots", slots(), "--store", server.url) as master:
        for what, value in _measure(options, master, script).items():
            yield Row(GROUP, f"{what}: {name}", value, "/s", "sqlite", value / base[what])
        before, count = _memory(server), options.scaled(10 * JOBS)
        with TitanClient(master.host, master.port) as client:
            _jobs(client, script, count)
        yield Row(GROUP, f"memory of a finished job: {name}", (_memory(server) - before) / count, "bytes")


def _measure(options: Options, master: Bundled, script: Path) -> dict[str, float]:
    seconds = 0.3 if options.quick else 2.0
    with TitanClient(master.host, master.port) as client:
        put = functools.partial(client.store_put, "k", "x" * 100)
        found = {
            "put, one client": per_second(put, seconds),
            "get, one client": per_second(lambda: client.store_get("k"), seconds),
            f"put, {CLIENTS} clients": _together(client, seconds),
        }
        _jobs(client, script, 10)
        rounds = 1 if options.quick else ROUNDS
        found["jobs"] = statistics.median(_jobs(client, script, options.scaled(JOBS)) for _ in range(rounds))
    return found


def _together(client: TitanClient, seconds: float) -> float:
    with ThreadPoolExecutor(CLIENTS) as pool:
        keys = [f"k{number}" for number in range(CLIENTS)]
        rates = pool.map(lambda key: per_second(lambda: client.store_put(key, "x" * 100), seconds), keys)
        return sum(rates)


def _jobs(client: TitanClient, script: Path, count: int) -> float:
    """Plain jobs per second, from the submission to the last end."""
    run = time.time_ns()
    started = time.perf_counter()
    jobs = [TitanJob(f"j{run}-{number}", str(script), runtime=False) for number in range(count)]
    client.submit_dag(f"d{run}", jobs).wait()
    return count / (time.perf_counter() - started)


def _memory(server: RedisServer) -> int:
    """Bytes of the data itself, as the server counts them."""
    text = server.say("INFO", "memory").decode()
    return int(
        next(line for line in text.splitlines() if line.startswith("used_memory_dataset:")).split(":")[1]
    )
