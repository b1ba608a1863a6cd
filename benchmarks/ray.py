"""Jobs on a Ray cluster: against plain Ray tasks that start the same process, and 10,000 over 8 raylets."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.frame import Figure, Rounds, timed
from benchmarks.masters import bundled, dag, noop
from benchmarks.peers import installed, peer
from titan_sdk import TitanClient

TURNS = 5
JOBS = 300
"""Of one turn."""
SCALE = 10_000
AGAINST = "a plain Ray task with subprocess.run"


def run(scale: float) -> Iterator[Figure]:
    if not installed("ray"):
        return
    with tempfile.TemporaryDirectory(prefix="titan-bench-ray-") as folder:
        yield from _overhead(Path(folder), noop(Path(folder)), max(int(JOBS * scale), 10))
        yield from _scale(Path(folder), noop(Path(folder)), int(SCALE * scale))


def _overhead(folder: Path, script: Path, count: int) -> Iterator[Figure]:
    from tests.support.ray_nodes import RayNodes

    cores, rounds = len(os.sched_getaffinity(0)), Rounds()
    with (
        # A cluster for each: of one, Ray ends those worker processes whose turn it is not, and what would be measured is
        # how long it takes to start them again.
        RayNodes(folder / "tasks.log", head={"num_cpus": cores}) as others,
        RayNodes(folder / "overhead.log", head={"num_cpus": cores}) as nodes,
        peer("ray", script, cores, others.address) as plain_tasks,
        bundled("--engine", "ray", "--ray-address", nodes.address) as front,
    ):
        _run(front.client, script, count, True)  # starts worker processes
        for _ in range(TURNS):
            rounds.note("task", plain_tasks(count) / count * 1e3)
            for kind, runtime in (("default", True), ("plain", False)):
                rounds.note(kind, _run(front.client, script, count, runtime) / count * 1e3)
    ceilings = {"default": "ratio <= 1.25", "plain": ""}
    for kind, ceiling in ceilings.items():
        yield rounds.figure(f"{kind} job on Ray", "ms", kind, "task", AGAINST, ceiling)


def _scale(folder: Path, script: Path, count: int) -> Iterator[Figure]:
    from tests.support.ray_nodes import RayNodes

    nodes = {f"node-{n}": {"num_cpus": 2} for n in range(8)}
    with (
        RayNodes(folder / "scale.log", **nodes) as ray,
        bundled("--engine", "ray", "--ray-address", ray.address) as front,
    ):
        _run(front.client, script, 32, False)
        before = _cpu(front.pid)
        took = _run(front.client, script, count, False)
        after = _cpu(front.pid)
    yield Figure(f"{count:,} plain jobs over 8 raylets of one machine", count / took, "/s")
    for name, spent in after.items():
        each = (spent - before[name]) / count
        yield Figure(f"processor time of the {name} per job", each * 1e3, "ms")
        if each:
            yield Figure(f"jobs for which one core of the {name} suffices", 1 / each, "/s")


def _run(client: TitanClient, script: Path, count: int, runtime: bool) -> float:
    name = f"r{time.monotonic_ns()}"
    jobs = dag(name, script, count, runtime=runtime)
    return timed(lambda: client.submit_dag(name, jobs).wait(timeout=1800))


def _cpu(front: int) -> dict[str, float]:
    """Seconds that processes have spent: the front with its children, and its dispatcher."""
    children = Path(f"/proc/{front}/task/{front}/children").read_text(encoding="ascii").split()
    actors = [path.name for path in Path("/proc").glob("[0-9]*") if _title(path) == b"ray::Dispatcher"]
    return {
        "front": sum(map(_seconds, [str(front), *children])),
        "dispatcher": sum(map(_seconds, actors)),
    }


def _title(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes().rstrip(b"\0 ").partition(b".")[0]
    except OSError:
        return b""


def _seconds(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
