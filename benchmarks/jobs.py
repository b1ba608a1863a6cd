"""Jobs of the bundled master, default (with the runtime) and plain, against bare processes and other runners."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.frame import Figure, Rounds, timed
from benchmarks.masters import bundled, dag, noop, resident, slots
from benchmarks.peers import installed, peer, start
from titan_sdk import TitanClient, TitanJob

ROUNDS = 7
AT_ONCE = (2, 3, 4)
"""Numbers of bare processes at once; the best of them counts."""
JOBS = 300
"""Of one kind in one turn."""
ONES = 12
CHAIN = 20
QUEUED = 10_000
NODES = 5_000
KINDS = {"default": True, "plain": False}


def run(scale: float) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="titan-bench-") as folder:
        script = noop(Path(folder))
        with bundled("--workers", "GENERAL=1", "--slots", str(slots())) as master:
            yield from _cold(scale, master.client, script)
        with bundled("--workers", "GENERAL=1") as master:
            yield from _queued(scale, master.client, master.pid, script)


def _cold(scale: float, client: TitanClient, script: Path) -> Iterator[Figure]:
    count, rounds = max(int(JOBS * scale), 10), Rounds()
    with contextlib.ExitStack() as stack:
        others: dict[str, Callable[[int], float]] = {
            name: stack.enter_context(peer(name, script, slots()))
            for name in ("concurrent.futures", "hyperqueue")
            if installed(name)
        }
        for runtime in KINDS.values():
            _run(client, script, 2, runtime)
        for _ in range(max(int(ROUNDS * scale), 2)):
            for at_once in AT_ONCE:
                rounds.note(f"bare {at_once}", _bare_rate(script, count, at_once))
            for kind, runtime in KINDS.items():
                rounds.note(kind, count / _run(client, script, count, runtime))
            for name, start_many in others.items():
                rounds.note(name, count / start_many(count))
            one = Rounds()
            for _ in range(ONES):
                one.note("bare", timed(lambda: start(str(script))) * 1e3)
                for kind, runtime in KINDS.items():
                    one.note(kind, _run(client, script, 1, runtime) * 1e3)
            rounds.note("chain of bare", CHAIN * one.median("bare"))
            for what in ("bare", *KINDS):
                rounds.note(f"one {what}", one.median(what))
            for kind, runtime in KINDS.items():
                rounds.note(f"chain of {kind}", _run(client, script, CHAIN, runtime, chain=True) * 1e3)
    yield from _told(rounds, others)


def _told(rounds: Rounds, others: dict[str, Callable[[int], float]]) -> Iterator[Figure]:
    # Not the best of each turn: the best of several values is more than what it is the best of.
    best = max((f"bare {at_once}" for at_once in AT_ONCE), key=rounds.median)
    rate = best.replace("bare", "processes,") + " at once"
    limits = {"default": ("0.7", "15"), "plain": ("0.85", "10")}
    for kind, (least, _) in limits.items():
        yield rounds.figure(f"{kind} jobs, cold", "/s", kind, best, rate, f"ratio >= {least}")
    for name in others:
        yield rounds.figure(f"the same processes by {name}", "/s", name, best, rate)
    for kind, (_, most) in limits.items():
        yield rounds.figure(
            f"one {kind} job", "ms", f"one {kind}", "one bare", "a process", f"over <= {most}"
        )
    chain, limit = f"{CHAIN} processes", "ratio <= 1.35"
    yield rounds.figure(f"chain of {CHAIN} plain jobs", "ms", "chain of plain", "chain of bare", chain, limit)
    yield rounds.figure(f"chain of {CHAIN} default jobs", "ms", "chain of default", "chain of bare", chain)


def _queued(scale: float, client: TitanClient, pid: int, script: Path) -> Iterator[Figure]:
    queued, nodes = int(QUEUED * scale), int(NODES * scale)
    _never(client, script, 100)
    before = resident(pid)
    none = _never(client, script, nodes)
    _never(client, script, queued - nodes)
    grew = resident(pid) - before
    then = _never(client, script, nodes)
    jobs = dag("nodes", script, nodes, runtime=False, chain=True)
    linked = timed(lambda: client.submit_dag("nodes", jobs)) / nodes * 1e3
    against = f"submitting {nodes:,} with none queued"
    yield Figure(f"submit one more with {queued:,} queued", then, "ms", against, none, then / none)
    yield Figure(f"submit a DAG of {nodes:,} nodes, per job", linked, "ms", against, none, linked / none)
    yield Figure(f"memory of the master for {queued:,} queued jobs", grew, "MiB")


def _never(client: TitanClient, script: Path, count: int) -> float:
    """Milliseconds per job of a submission, for a tag that no worker has: nothing else goes on."""
    name = _name()
    jobs = [TitanJob(f"{name}-{n}", str(script), runtime=False, requirement="NEVER") for n in range(count)]
    return timed(lambda: client.submit_dag(name, jobs)) / count * 1e3


def _run(client: TitanClient, script: Path, count: int, runtime: bool, *, chain: bool = False) -> float:
    """Seconds from the submission to the last end."""
    name = _name()
    jobs = dag(name, script, count, runtime=runtime, chain=chain)
    return timed(lambda: client.submit_dag(name, jobs).wait(timeout=600))


def _bare_rate(script: Path, count: int, at_once: int) -> float:
    with ThreadPoolExecutor(at_once) as pool:
        return count / timed(lambda: list(pool.map(start, [str(script)] * count)))


def _name() -> str:
    return f"b{time.monotonic_ns()}"
