"""Jobs on a Ray cluster: overhead against plain Ray tasks that start the same subprocess, and 10,000 over 8 raylets."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.frame import Options, Row
from tests.support.ray_nodes import RayNodes
from titan_sdk import TitanClient, TitanJob

_ROUNDS = 7
_JOBS = 600
"""Of one turn."""
_PLAIN = """
import os, subprocess, sys, time
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
import ray
address, script = sys.argv[1:]
ray.init(address, log_to_driver=False, logging_level="error")
@ray.remote(max_retries=0)
def task():
    return subprocess.run([sys.executable, script]).returncode
for line in sys.stdin:
    started = time.perf_counter()
    assert not any(ray.get([task.remote() for _ in range(int(line))]))
    print("took", time.perf_counter() - started, flush=True)
"""
_TOOK = "took "
_FRONT = """
import sys
from titan_sdk.cluster import ClusterSettings, run_master
from titan_sdk.cluster.engines.ray.settings import RaySettings
ray = RaySettings(sys.argv[2], keep_jobs=False, prefetch=int(sys.argv[3]))
settings = ClusterSettings(sys.argv[1], port=0, engine="ray", ray=ray)
sys.exit(run_master(settings, lambda host, port: print(host, port, flush=True)))
"""


def run(options: Options) -> Iterator[Row]:
    """Both measurements."""
    # Each way's workers are its own, and Ray ends those of the others while it is one's turn: what would be measured
    # is how long Ray takes to start a worker process.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
    with tempfile.TemporaryDirectory(prefix="titan-bench-ray-") as folder:
        script = Path(folder) / "nothing.py"
        script.write_text("pass\n", encoding="utf-8")
        yield from _overhead(Path(folder), script, options.scaled(_JOBS))
        yield from _scale(Path(folder), script, options.scaled(10_000))


# ---------------------------------------------------------------------- overhead


def _overhead(folder: Path, script: Path, jobs: int) -> Iterator[Row]:
    cores = len(os.sched_getaffinity(0))
    against = "plain Ray tasks with subprocess.run([python, script])"
    with (
        RayNodes(folder / "overhead.log", head={"num_cpus": cores}) as nodes,
        _plain(nodes.address, script) as plain,
    ):
        # One after the other: a second front would take its part of the machine while it is the first one's turn.
        for prefetch, what in ((2, "job"), (0, "job, --ray-prefetch 0")):
            with _front(folder / str(prefetch), nodes.address, prefetch=prefetch) as front:
                theirs, ours = _turns(plain, front, script, jobs)
            if prefetch:
                yield Row("ray", "plain Ray task per subprocess", statistics.median(theirs), "ms")
            ratio = statistics.median(mine / its for mine, its in zip(ours, theirs, strict=True))
            yield Row("ray", what, statistics.median(ours), "ms", against, ratio, "<= 1.15x")


def _turns(
    plain: Callable[[int], float], front: _Front, script: Path, jobs: int
) -> tuple[list[float], list[float]]:
    """Milliseconds per task and per job, of each turn."""
    theirs, ours = [], []
    for turn in range(-1, _ROUNDS):
        took = plain(jobs), front.dag(f"turn{turn}", script, jobs)
        if turn >= 0:  # the first one starts worker processes
            theirs.append(took[0] / jobs * 1e3)
            ours.append(took[1] / jobs * 1e3)
    return theirs, ours


@contextmanager
def _plain(address: str, script: Path) -> Iterator[Callable[[int], float]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PLAIN, address, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def seconds(count: int) -> float:
        process.stdin.write(f"{count}\n")
        process.stdin.flush()
        while not (line := process.stdout.readline()).startswith(_TOOK):
            assert line, "the driver of the plain tasks ended"
        return float(line.removeprefix(_TOOK))

    try:
        yield seconds
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


# ---------------------------------------------------------------------- scale


def _scale(folder: Path, script: Path, jobs: int) -> Iterator[Row]:
    nodes = {f"node-{n}": {"num_cpus": 2} for n in range(8)}
    with (
        RayNodes(folder / "scale.log", **nodes) as ray,
        _front(folder / "scale", ray.address, prefetch=8) as front,
    ):
        front.dag("warm-up", script, 32)
        before = front.cpu()
        took = front.dag("scale", script, jobs)
        after = front.cpu()
    yield Row("ray", f"{jobs:,} jobs over 8 raylets of one machine", jobs / took, "jobs/s")
    for name, what in (("front", "front"), ("bridge", "bridge of the front"), ("dispatcher", "dispatcher")):
        spent = (getattr(after, name) - getattr(before, name)) / jobs * 1e3
        yield Row("ray", f"CPU of the {what} per job", spent, "ms")


@dataclass(frozen=True, slots=True)
class _Cpu:
    """Seconds that the processes have spent."""

    front: float
    bridge: float
    dispatcher: float


class _Front:
    def __init__(self, pid: int, client: TitanClient) -> None:
        self._pid = pid
        self._client = client

    def dag(self, name: str, script: Path, jobs: int) -> float:
        """Seconds until so many jobs have been submitted and have ended."""
        listed = [TitanJob(f"{name}-{n}", str(script), runtime=False) for n in range(jobs)]
        started = time.perf_counter()
        self._client.submit_dag(name, listed).wait(timeout=1800)
        return time.perf_counter() - started

    def cpu(self) -> _Cpu:
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        actors = [
            int(path.name) for path in Path("/proc").glob("[0-9]*") if _title(path) == b"ray::Dispatcher"
        ]
        return _Cpu(_seconds(self._pid), sum(map(_seconds, map(int, children))), sum(map(_seconds, actors)))


def _title(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes().rstrip(b"\0 ").partition(b".")[0]
    except OSError:
        return b""


def _seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _front(folder: Path, address: str, *, prefetch: int) -> Iterator[_Front]:
    process = subprocess.Popen(
        [sys.executable, "-c", _FRONT, str(folder), address, str(prefetch)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        host, port = process.stdout.readline().split()
        with TitanClient(host, int(port)) as client:
            yield _Front(process.pid, client)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
