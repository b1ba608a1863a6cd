"""Others that run processes: Ray tasks, HyperQueue, `concurrent.futures`. Each starts `python -u SCRIPT` as often as told.

A peer lives in a process of its own, `python -m benchmarks.peers NAME SCRIPT PLACES [ADDRESS]`: it reads a number from
stdin, runs so many, and says how long that took. Who is not installed is left out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

__all__ = ["installed", "peer", "start"]

_TOOK = "took "


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def start(script: str) -> int:
    """One bare process."""
    return subprocess.run([sys.executable, "-u", script], check=True).returncode


@contextlib.contextmanager
def peer(name: str, script: Path, places: int, address: str = "") -> Iterator[Callable[[int], float]]:
    """Runs so many, and returns the seconds that they took."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers", name, str(script), str(places), address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    orders, answers = process.stdin, process.stdout
    assert orders is not None
    assert answers is not None

    def run(count: int) -> float:
        orders.write(f"{count}\n")
        orders.flush()
        while not (line := answers.readline()).startswith(_TOOK):
            if not line:
                raise RuntimeError(
                    f"{name} ended; see `python -m benchmarks.peers {name} {script} {places} {address}`"
                )
        return float(line.removeprefix(_TOOK))

    try:
        run(places)  # its processes are there
        yield run
    finally:
        orders.close()
        process.wait(timeout=60)
        answers.close()


@contextlib.contextmanager
def _futures(script: str, places: int, _address: str) -> Iterator[Callable[[int], object]]:
    with ProcessPoolExecutor(places) as pool:
        yield lambda count: list(pool.map(start, [script] * count))


@contextlib.contextmanager
def _hyperqueue(script: str, places: int, _address: str) -> Iterator[Callable[[int], object]]:
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig

    with tempfile.TemporaryDirectory(prefix="titan-bench-hq-") as folder, LocalCluster() as cluster:
        os.chdir(folder)
        cluster.start_worker(WorkerConfig(cores=places))
        client = cluster.client()

        def run(count: int) -> None:
            # Its client looks once a second whether all have ended; a last task that depends on the others tells at once.
            job, ended = Job(), Path(folder) / f"ended-{time.monotonic_ns()}"
            tasks = [job.program([sys.executable, "-u", script], cwd=folder) for _ in range(count)]
            job.program(["/bin/sh", "-c", f": > {ended}"], cwd=folder, deps=tasks)
            client.submit(job)
            while not ended.exists():
                time.sleep(0.001)

        yield run


@contextlib.contextmanager
def _ray(script: str, _places: int, address: str) -> Iterator[Callable[[int], object]]:
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    ray.init(address, log_to_driver=False, logging_level="error")
    program = [sys.executable, "-u", script]
    task = ray.remote(max_retries=0)(lambda: subprocess.run(program, check=True).returncode)
    yield lambda count: ray.get([task.remote() for _ in range(count)])


def main(name: str, script: str, places: str, address: str = "") -> None:
    kinds = {"concurrent.futures": _futures, "hyperqueue": _hyperqueue, "ray": _ray}
    with kinds[name](script, int(places), address) as run:
        for line in sys.stdin:
            started = time.perf_counter()
            run(int(line))
            print(_TOOK, time.perf_counter() - started, sep="", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
