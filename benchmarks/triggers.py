"""5,000 deferred tasks in one triggerer process: the cost of waiting, and how soon an end is seen.

Most of the jobs are PENDING with a long delay. The others run, are told to end one after the other, and write down when
they do. The triggerer is a process of its own, ``python -m benchmarks.triggers FOLDER``, so that its figures are the
triggers' alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.frame import Figure
from benchmarks.masters import Bundled, bundled, resident
from benchmarks.peers import installed
from titan_sdk import TitanClient, TitanJob

TRIGGERS = 5000
RUNNING = 80
SETTLE_SECONDS = 15.0
STEADY_SECONDS = 45.0
END_EVERY = 0.3
_DAY = 86_400_000
_SCRIPT = """
import os, sys, time
flag = os.path.join(sys.argv[1], sys.argv[2])
while not os.path.exists(flag):
    time.sleep(0.1)
with open(flag + ".ended", "w") as file:
    file.write(repr(time.time()))
"""


def run(scale: float) -> Iterator[Figure]:
    if not installed("airflow"):
        return
    with (
        tempfile.TemporaryDirectory(prefix="titan-bench-") as name,
        bundled("--workers", "GENERAL=4", "--slots", str(RUNNING // 4)) as master,
    ):
        folder = Path(name)
        running = _submit_running(master.client, int(RUNNING * scale), folder)
        ids = [*running, *_submit_delayed(master.client, int(TRIGGERS * scale) - len(running), folder)]
        (folder / "jobs.json").write_text(json.dumps({"all": ids, "running": running}), encoding="utf-8")
        yield from _watch(master, folder, running, len(ids), STEADY_SECONDS * max(scale, 0.3))


def _submit_running(client: TitanClient, count: int, folder: Path) -> list[str]:
    script = folder / "until_told.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    jobs = [TitanJob(f"r{index}", str(script), args=[str(folder), f"r{index}"]) for index in range(count)]
    return [job.full_id for job in client.submit_dag("running", jobs).jobs]


def _submit_delayed(client: TitanClient, count: int, folder: Path) -> list[str]:
    script = folder / "never.py"
    script.write_text("pass\n", encoding="utf-8")
    jobs = [TitanJob(f"d{index}", str(script), delay=_DAY) for index in range(count)]
    parts = (jobs[start : start + 500] for start in range(0, count, 500))
    return [
        job.full_id for n, part in enumerate(parts) for job in client.submit_dag(f"delayed{n}", part).jobs
    ]


def _watch(
    master: Bundled, folder: Path, running: list[str], triggers: int, lasting: float
) -> Iterator[Figure]:
    host, port = master.client.config.host, master.client.config.port
    environ = os.environ | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW_CONN_TITAN_DEFAULT": f"titan://{host}:{port}",
    }
    command = [sys.executable, "-m", "benchmarks.triggers", str(folder)]
    root = Path(__file__).parent.parent
    before = _connections(master)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environ, cwd=root, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    try:
        _until(folder / "imported", process, folder)
        imported = resident(process.pid)
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()
        _until(folder / "settled", process, folder)
        cpu, asked, started = _cpu(process.pid), _asked(master), time.monotonic()
        time.sleep(lasting)
        took = time.monotonic() - started
        yield Figure(
            "processor time while nothing ends, per minute",
            (_cpu(process.pid) - cpu) / took * 60,
            "s",
            ceiling="value <= 30",
        )
        yield Figure(
            "requests while nothing ends", (_asked(master) - asked) / took, "/s", ceiling="value <= 450"
        )
        yield Figure("connections", _connections(master) - before, "", ceiling="value <= 16")
        each = (resident(process.pid) - imported) / triggers * 1024
        yield Figure("memory of a trigger", each, "KiB", ceiling="value <= 64")
        for index in range(len(running)):
            (folder / f"r{index}").touch()
            time.sleep(END_EVERY)
        _until(folder / "seen.json", process, folder)
    finally:
        process.terminate()
        process.wait(30)
    seen = json.loads((folder / "seen.json").read_text(encoding="utf-8"))
    late = [seen[job] - float((folder / f"r{n}.ended").read_text()) for n, job in enumerate(running)]
    yield Figure("a job's end until its event, median", statistics.median(late), "s")
    yield Figure("a job's end until its event, 95th percentile", statistics.quantiles(late, n=20)[18], "s")


def _until(path: Path, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 240
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = (folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:]
            raise RuntimeError(f"the triggers never got as far as {path.name}: {tail}")
        time.sleep(0.1)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _asked(master: Bundled) -> float:
    return sum(value for name, value in master.metrics().items() if name.startswith("titan_requests_total"))


def _connections(master: Bundled) -> float:
    return master.metrics()["titan_connections"]


# ---------------------------------------------------------------------- the triggerer


async def _triggerer(folder: Path) -> None:
    jobs = json.loads((folder / "jobs.json").read_text(encoding="utf-8"))
    await _event("nothing", {}, run=False)
    (folder / "imported").touch()
    await asyncio.to_thread(sys.stdin.readline)
    seen: dict[str, float] = {}
    tasks = {job_id: asyncio.create_task(_event(job_id, seen)) for job_id in jobs["all"]}
    await asyncio.sleep(SETTLE_SECONDS)
    if seen:
        raise RuntimeError(f"{len(seen)} triggers fired before any job ended: {list(seen)[:3]}")
    (folder / "settled").touch()
    await asyncio.gather(*(tasks[job_id] for job_id in jobs["running"]))
    (folder / "seen.part").write_text(json.dumps(seen), encoding="utf-8")
    (folder / "seen.part").rename(folder / "seen.json")
    await asyncio.Event().wait()


async def _event(job_id: str, seen: dict[str, float], *, run: bool = True) -> None:
    from titan_provider.triggers.job import TitanJobTrigger

    trigger = TitanJobTrigger(titan_conn_id="titan_default", job_id=job_id)
    # As in a triggerer, the trigger is what its arguments in the database say.
    again = TitanJobTrigger(**trigger.serialize()[1])
    if not run:
        return
    async for event in again.run():
        seen[job_id] = time.time()
        if event.payload["outcome"] != "ended":
            raise RuntimeError(f"{job_id}: {event.payload}")
        break


if __name__ == "__main__":
    asyncio.run(_triggerer(Path(sys.argv[1])))
