"""Jobs of the bundled master against the machine itself: what the same number of bare processes takes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.frame import Options, Row
from benchmarks.masters import Bundled, bundled, slots
from titan_sdk import TitanClient, TitanJob

ROUNDS = 5
AT_ONCE = (2, 3, 4)
"""Numbers of bare processes at once."""
JOBS = 1000
CHAIN = 20
QUEUED = 10_000
NODES = 5_000
GROUP = "jobs"


def run(options: Options) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="titan-bench-") as folder:
        script = noop(Path(folder))
        for mode, more in (("cold", ()), ("warm", ("--warm-python",))):
            with bundled("--workers", "GENERAL=1", "--slots", slots(), *more) as master:
                yield from _rates(options, mode, master, script)
        with bundled("--workers", "GENERAL=1") as master:
            yield from _queued(options, master, script)
        if options.titan_address is not None:
            with TitanClient(*options.titan_address) as client:
                count = options.scaled(JOBS // 10)
                yield Row(GROUP, f"real Titan: {count} plain jobs", _rate(client, script, count, False), "/s")


def _rates(options: Options, mode: str, master: Bundled, script: Path) -> Iterator[Row]:
    """Bare processes and jobs in turns, the median of each: others use the machine too."""
    count, rounds = options.scaled(JOBS), 1 if options.quick else ROUNDS
    found: dict[str, list[float]] = {}

    def note(what: str, value: float) -> None:
        found.setdefault(what, []).append(value)

    with TitanClient(master.host, master.port) as client:
        _rate(client, script, 2, False)
        for _ in range(rounds):
            for at_once in AT_ONCE:
                note(f"bare {at_once}", bare_rate(options, script, at_once))
            note("plain", _rate(client, script, count, False))
            note("runtime", _rate(client, script, count // 10, True))
            note("one bare", bare_seconds(script))
            note("one", _seconds(lambda: _chain(client, script, 1), 20))
            note("chain", _chain(client, script, CHAIN))
    value = {what: statistics.median(values) for what, values in found.items()}
    # Not the best of every round: the best of several values is more than what it is the best of.
    value["bare"] = max(value[f"bare {at_once}"] for at_once in AT_ONCE)
    target = ">= 0.9x" if mode == "cold" else ">= 3x"
    yield Row(GROUP, f"bare processes, best concurrency ({mode} turn)", value["bare"], "/s")
    bare, one_bare = value["bare"], value["one bare"]
    yield Row(GROUP, f"{mode}: plain jobs", value["plain"], "/s", "bare", value["plain"] / bare, target)
    yield Row(
        GROUP, f"{mode}: jobs with the runtime", value["runtime"], "/s", "bare", value["runtime"] / bare
    )
    over = (value["one"] - one_bare) * 1e3
    yield Row(GROUP, f"{mode}: one plain job over a bare process", over, "ms", target="<= 10 ms")
    yield Row(
        GROUP,
        f"{mode}: chain of {CHAIN}",
        value["chain"] * 1e3,
        "ms",
        f"{CHAIN} bare processes",
        value["chain"] / (CHAIN * one_bare),
        "<= 1.3x",
    )


def _queued(options: Options, master: Bundled, script: Path) -> Iterator[Row]:
    """Whether the cost of a job grows with how many there are."""
    many, nodes = options.scaled(QUEUED), options.scaled(NODES)
    with TitanClient(master.host, master.port) as client:
        before = statistics.median(submit_seconds(client, script, 500) for _ in range(5))
        empty = resident(master.pid)
        submit_seconds(client, script, many)
        grown = resident(master.pid) - empty
        after = statistics.median(submit_seconds(client, script, 500) for _ in range(5))
        yield Row(GROUP, f"submit with {many:,} queued, per job", after * 1e3, "ms", "none", after / before)
        yield Row(GROUP, f"memory of the master for {many:,} jobs", grown / 2**20, "MiB")
        jobs = [_job(script, f"n{n}", False, [f"n{n - 1}"] if n else None) for n in range(nodes)]
        took = _timed(lambda: client.submit_dag("nodes", jobs)) / nodes
        yield Row(GROUP, f"submit a DAG of {nodes:,} nodes, per job", took * 1e3, "ms", "none", took / before)


def _job(script: Path, job_id: str, runtime: bool, parents: list[str] | None = None) -> TitanJob:
    return TitanJob(job_id, str(script), runtime=runtime, parents=parents)


def _name() -> str:
    return f"b{time.monotonic_ns()}"


def _rate(client: TitanClient, script: Path, count: int, runtime: bool) -> float:
    name = _name()
    jobs = [_job(script, f"{name}-{n}", runtime) for n in range(count)]
    return count / _timed(lambda: client.submit_dag(name, jobs).wait())


def _chain(client: TitanClient, script: Path, length: int) -> float:
    name = _name()
    jobs = [_job(script, f"{name}-{n}", False, [f"{name}-{n - 1}"] if n else None) for n in range(length)]
    return _timed(lambda: client.submit_dag(name, jobs).wait())


def submit_seconds(client: TitanClient, script: Path, count: int) -> float:
    """Per job, for a tag that no worker has: nothing else goes on."""
    name = _name()
    jobs = [TitanJob(f"{name}-{n}", str(script), runtime=False, requirement="NEVER") for n in range(count)]
    return _timed(lambda: client.submit_dag(name, jobs)) / count


def noop(folder: Path) -> Path:
    """The script of a job that does nothing."""
    script = folder / "noop.py"
    script.write_text("pass\n", encoding="utf-8")
    return script


def bare_rate(options: Options, script: Path, at_once: int) -> float:
    """Bare processes per second, so many at a time."""
    count = options.scaled(JOBS) // 4
    with ThreadPoolExecutor(at_once) as pool:
        return count / _timed(lambda: list(pool.map(lambda _: _bare(script), range(count))))


def bare_seconds(script: Path) -> float:
    """One bare process."""
    return _seconds(lambda: _bare(script), 20)


def _bare(script: Path) -> None:
    subprocess.run([sys.executable, "-u", script], check=True)


def _seconds(action: Callable[[], object], times: int) -> float:
    return statistics.median(_timed(action) for _ in range(times))


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
