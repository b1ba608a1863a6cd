"""5,000 deferred tasks in one triggerer process: what waiting for them costs, and how soon an end is seen.

Most of the jobs are PENDING with a long delay; the others run, are told to end one after the other, and write down when
they do. `triggers_side.py` is the triggerer: a process of its own, so that its figures are the triggers' alone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.frame import Options, Row
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster

TRIGGERS = 5000
RUNNING = 80
STEADY_SECONDS = 45.0
END_EVERY = 0.3
_DAY = 86_400_000
_SIDE = Path(__file__).with_name("triggers_side.py")

_SCRIPT = """
import os, sys, time
flag = os.path.join(sys.argv[1], os.environ["JOB"])
while not os.path.exists(flag):
    time.sleep(0.1)
with open(flag + ".ended", "w") as file:
    file.write(repr(time.time()))
"""


def run(options: Options) -> Iterator[Row]:
    for strict in (False, True):
        yield from _measure(options, strict=strict)


def _measure(options: Options, *, strict: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="titan-bench-") as name:
        folder = Path(name)
        with (
            LocalCluster({"GENERAL": 4}, slots=RUNNING // 4, strict_titan=strict) as cluster,
            TitanClient(cluster.host, cluster.port) as client,
        ):
            running = _submit_running(client, options.scaled(RUNNING), folder)
            ids = [*running, *_submit_delayed(client, options.scaled(TRIGGERS) - len(running), folder)]
            (folder / "jobs.json").write_text(json.dumps({"all": ids, "running": running}), encoding="utf-8")
            seconds = STEADY_SECONDS / 3 if options.quick else STEADY_SECONDS
            found = _drive(cluster, folder, running, seconds)
    group = f"{len(ids):,} triggers, {'strict' if strict else 'bundled'} master"
    latencies = [found["seen"][job_id] - found["ended"][job_id] for job_id in running]
    minute = 60 / found["seconds"]
    for what, value, unit, target in (
        ("processor time while nothing ends", found["cpu"] * minute, "s/min", "< 30 s/min"),
        ("requests while nothing ends", found["requests"] / found["seconds"], "/s", "< 450 /s"),
        ("connections opened while nothing ends", found["opened"] / found["seconds"], "/s", ""),
        ("connections at once, start and stop included", found["connections"], "", "<= 16"),
        ("threads, at most", found["threads"], "", ""),
        ("memory, per trigger", found["per_trigger_kib"], "KiB", "< 64 KiB"),
        ("memory, whole process", found["rss_mib"], "MiB", ""),
        ("a job's end until its event, median", statistics.median(latencies), "s", ""),
        ("a job's end until its event, p95", statistics.quantiles(latencies, n=20)[18], "s", ""),
    ):
        yield Row(group, what, float(value), unit, target=target)


def _submit_running(client: TitanClient, count: int, folder: Path) -> list[str]:
    script = folder / "until_told.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    jobs = [
        TitanJob(f"r{index}", str(script), args=[str(folder)], env={"JOB": f"r{index}"})
        for index in range(count)
    ]
    return [job.full_id for job in client.submit_dag("running", jobs).jobs]


def _submit_delayed(client: TitanClient, count: int, folder: Path) -> list[str]:
    script = folder / "never.py"
    script.write_text("pass\n", encoding="utf-8")
    ids: list[str] = []
    for start in range(0, count, 500):
        names = range(start, min(start + 500, count))
        jobs = [TitanJob(f"d{index}", str(script), delay=_DAY) for index in names]
        ids += [job.full_id for job in client.submit_dag(f"delayed{start}", jobs).jobs]
    return ids


def _drive(
    cluster: LocalCluster, folder: Path, running: list[str], seconds: float
) -> dict[str, dict[str, float]]:
    environ = {
        **os.environ,
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW_CONN_TITAN_DEFAULT": f"titan://{cluster.host}:{cluster.port}",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.triggers_side", str(folder), str(seconds)],
            env=environ,
            cwd=_SIDE.parent.parent,
            stdout=log,
            stderr=log,
        )
        try:
            _until(folder / "steady", process, folder)
            for index in range(len(running)):
                (folder / f"r{index}").touch()
                time.sleep(END_EVERY)
            _until(folder / "found.json", process, folder)
        finally:
            process.terminate()
            process.wait(30)
    found: dict[str, dict[str, float]] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    found["ended"] = {
        job_id: float((folder / f"r{index}.ended").read_text()) for index, job_id in enumerate(running)
    }
    return found


def _until(path: Path, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 240
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = (folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:]
            raise RuntimeError(f"the triggers never got as far as {path.name}: {tail}")
        time.sleep(0.1)
