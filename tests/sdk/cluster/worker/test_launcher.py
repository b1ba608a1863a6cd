"""The guard of a job with the runtime is its launcher, too; the job meets what it would meet below a launcher of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.cluster.peer import Meeting
from tests.sdk.cluster.worker.test_worker import Machine, arrivals, ended, family
from tests.support.mini_store import MiniStore
from tests.support.process_watch import has_ended, wait_for
from tests.support.runtime_bench import Bench
from titan_sdk.cluster.worker.client import EndKind, RunEnd, WorkerClient
from titan_sdk.cluster.worker.protocol import StartRequest
from titan_sdk.runtime.bundle import runtime_bundle
from titan_sdk.runtime.spec import RunSpec

REPORT = """
import json, os, signal, sys, titan_job
def handled(number):
    try:
        return str(signal.getsignal(number))
    except ValueError:
        return None
umask = os.umask(0); os.umask(umask)
def own_fds():
    return sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}"))
titan_job.result({
    "args": sys.argv[1:], "python": sys.executable, "flags": str(sys.flags), "params": titan_job.params,
    "environment": dict(os.environ), "modules": sorted(sys.modules), "path": sys.path[1:], "cwd": os.getcwd(),
    "stdin": sys.stdin.read(), "umask": umask, "leader": os.getsid(0) == os.getpgid(0) == os.getpid(),
    "signals": {str(number): handled(number) for number in range(1, signal.NSIG)}, "fds": own_fds(),
    "mask": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "forked": b"bootstrap.py" in open(f"/proc/{os.getppid()}/cmdline", "rb").read(), "parent": os.getppid(),
})
print("to the log", flush=True)
os.system("echo and from a shell")
"""


@pytest.fixture
def bench() -> Iterator[Bench]:
    store, bundle = MiniStore(), runtime_bundle()
    store.assets[bundle.name] = bundle.data
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        yield Bench(store, Path(folder))
    store.close()


@pytest.fixture
async def machine(tmp_path: Path, bench: Bench) -> AsyncIterator[Machine]:
    made = Machine(tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made.environment = {**bench.environment, "PATH": path, "TITAN_RUNTIME_END_PATIENCE": "20"}
    yield made
    for worker in made.workers:
        await worker.close()
    for worker in made.workers:
        await worker.ended(60)


@pytest.fixture
async def worker(machine: Machine) -> WorkerClient:
    return await machine.spawn()


def forked(machine: Machine, bench: Bench, spec: RunSpec, run: str = "1") -> StartRequest:
    return StartRequest(
        run=f"{machine.tag}.{run}",
        job=spec.job_id,
        argv=[],
        cwd=str(bench.shared),
        log=str(machine.folder / f"{run}.log"),
        environment="here",
        grace=spec.cancel_grace + 5,
        spec=ascii(json.loads(spec.to_json(runtime_bundle()))),
    )


async def test_nothing_but_its_command_line_tells_it_from_a_program(
    machine: Machine, bench: Bench, worker: WorkerClient
) -> None:
    fields: dict[str, Any] = {"argv": ("a b", "ü"), "env": {"GIVEN": "ä"}, "params": {"x": [1, "'"]}}
    other: dict[str, Any] = {"env": {"OTHER": "1"}, "params": 1}
    found, guards = {}, {}
    # The first job of a machine finds the runtime not compiled yet, elsewhere than all later ones. The guard of the last
    # one has served others before.
    for name in ("first", "exec", "fork", "other", "again"):
        spec = bench.spec(REPORT, job_id="DAG-same", **(other if name == "other" else fields))
        start, environment = forked(machine, bench, spec, name), machine.environment
        if name in ("first", "exec"):
            start = start._replace(spec="", argv=["/bin/bash", str(bench.stage(spec))])
        if name == "other":
            folder = bench.shared.parent / "elsewhere"
            folder.mkdir()
            start = start._replace(cwd=str(folder), environment="there")
            environment = {**environment, "MORE": "1"}
        assert await ended(worker.start(start, environment)) == RunEnd(EndKind.ENDED, 0), machine.log(name)
        assert machine.log(name) == "to the log\nand from a shell\n" == bench.log(spec)
        found[name] = bench.result(spec)
        guards[name] = found[name].pop("parent")
        for variable in ("TITAN_NONCE", "TITAN_JOB_DIR", "TITAN_RUN", "_", "SHLVL"):
            found[name]["environment"].pop(variable, None)
        # Where the launcher's modules for jobs are: in its bundle, or in the worker process's folder.
        library = found[name]["environment"].pop("PYTHONPATH")
        assert library == found[name]["path"].pop(0)
        found[name]["is there"] = ".zip/" in library or has_modules(library)
    assert (found["exec"].pop("forked"), found["fork"].pop("forked")) == (False, True)
    for one in found["exec"], found["fork"], found["again"]:
        one["modules"] = [name for name in one["modules"] if not name.startswith("zip")]
        one["environment"].pop("PWD", None)
    assert found["fork"] == found["exec"]
    assert found["again"].pop("forked")
    assert found["again"] == found["fork"]
    assert found["other"]["environment"]["MORE"] == found["other"]["environment"]["OTHER"] == "1"
    assert guards["fork"] == guards["other"] == guards["again"]


@pytest.mark.parametrize(
    ("source", "env"),
    [
        (b"def f():\n    return 1 / 0\nprint(__file__, f.__code__.co_filename)\nf()\n", {}),
        (b"import sys\nprint(sys.argv, sys.path[0])\nx = 1\nprint(x is 1)\n", {}),
        (b"print('\\d')\n", {"PYTHONWARNINGS": "always"}),
        (b"if 1\n    pass\n", {}),
        (b"# coding: latin-1\nprint(ascii('\xe4'))\n", {}),
        (b"print('\0')\n", {}),
        (b"assert False\nprint(__debug__)\n", {"PYTHONOPTIMIZE": "1"}),
        (b"#!/usr/bin/env python3 -O\nassert False\nprint(__debug__)\n", {}),
        (b"import pickle\nclass A: pass\nprint(pickle.loads(pickle.dumps(A())))\n", {}),
        (b"x = " + b"(" * 300 + b")" * 300 + b"\n", {}),
        (b"# " + b"x" * 70_000 + b"\nprint('long')\n", {}),
    ],
    ids=lambda value: None,
)
async def test_a_script_that_is_compiled_before_looks_as_any_other(
    machine: Machine, bench: Bench, worker: WorkerClient, source: bytes, env: dict[str, str]
) -> None:
    said = []
    for name in ("exec", "fork"):
        spec = bench.spec(source, env=env)
        start = forked(machine, bench, spec, name)
        if name == "exec":
            start = start._replace(spec="", argv=["/bin/bash", str(bench.stage(spec))])
        end = await ended(worker.start(start, machine.environment))
        record = bench.state(spec)
        text = re.sub(r"titan-job-\w+-\w+| at 0x\w+", "", f"{bench.log(spec)}\n{record.exception}")
        said.append((end, record.state, text))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("code", "told", "reason"),
    [
        ("raise SystemExit(7)", 7, "exit_code=7"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", 137, "SIGKILL"),
    ],
)
async def test_a_failure_is_told_as_ever(
    machine: Machine, bench: Bench, worker: WorkerClient, code: str, told: int, reason: str
) -> None:
    spec = bench.spec(code)
    end = await ended(worker.start(forked(machine, bench, spec), machine.environment))
    assert end == RunEnd(EndKind.ENDED, told)
    assert reason in machine.log() + str(bench.state(spec))
    assert bench.leftovers() == []


async def test_a_stop_is_handed_in(
    machine: Machine, bench: Bench, worker: WorkerClient, meeting: Meeting
) -> None:
    spec = bench.spec(family(meeting))
    end = worker.start(forked(machine, bench, spec), machine.environment)
    found = await arrivals(meeting)
    worker.stop(f"{machine.tag}.1")
    assert (await ended(end)).code == 143
    assert bench.state(spec).state == "failed"
    assert all(has_ended(pid) for pid, _ in found.values())


async def test_a_killed_launcher_takes_its_job_along_and_its_end_is_handed_in(
    machine: Machine, bench: Bench, worker: WorkerClient, meeting: Meeting
) -> None:
    spec = bench.spec(family(meeting, deaf=True))
    end = worker.start(forked(machine, bench, spec), machine.environment)
    found = await arrivals(meeting)
    os.kill(int(found["script"][1]), signal.SIGKILL)
    assert (await ended(end)).code == 137
    assert all(has_ended(pid) for pid, _ in found.values())
    assert "its launcher was ended by SIGKILL" in str(bench.state(spec))
    assert bench.leftovers() == []


async def test_nothing_is_left_when_launcher_and_guard_are_killed_at_once(
    machine: Machine, bench: Bench, worker: WorkerClient, meeting: Meeting
) -> None:
    spec = bench.spec(family(meeting, deaf=True))
    start = forked(machine, bench, spec)._replace(
        rest=1.0, spec="", argv=["/bin/bash", str(bench.stage(spec))]
    )
    end = worker.start(start, machine.environment)
    found = await arrivals(meeting)
    guard = int(found["script"][1])
    both = [parent(str(guard)), guard]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in both:
            os.kill(pid, number)
    assert (await ended(end)).code == 137
    assert all(has_ended(pid) for pid, _ in found.values())


async def test_a_stop_at_any_moment_of_the_start_is_heard(
    machine: Machine, bench: Bench, worker: WorkerClient
) -> None:
    # The first one makes the guard, later ones find it waiting.
    for number in range(10):
        spec = bench.spec("import time; time.sleep(600)", cancel_grace=1.0)
        end = worker.start(forked(machine, bench, spec, str(number)), machine.environment)
        await asyncio.sleep(0.005 * number)
        worker.stop(f"{machine.tag}.{number}")
        assert (await ended(end)).code == 143
        last = bench.spec("")
        assert (
            await ended(worker.start(forked(machine, bench, last, f"{number}-last"), machine.environment))
        ).code == 0
    assert bench.leftovers() == []


@pytest.mark.parametrize("how", ["fork", "exec"])
async def test_a_killed_worker_process_takes_it_along(
    machine: Machine, bench: Bench, worker: WorkerClient, meeting: Meeting, how: str
) -> None:
    spec = bench.spec(family(meeting, deaf=True), cancel_grace=0.5)
    start = forked(machine, bench, spec)
    if how == "exec":
        start = start._replace(spec="", argv=["/bin/bash", str(bench.stage(spec))])
    end = worker.start(start, machine.environment)
    found = await arrivals(meeting)
    os.kill(worker.pid, signal.SIGKILL)
    assert (await ended(end)).how is EndKind.LOST
    await asyncio.to_thread(wait_for, lambda: all(has_ended(pid) for pid, _ in found.values()))
    # Its launcher had time to say so.
    await asyncio.to_thread(wait_for, lambda: bench.has_state(spec, "failed"))
    await asyncio.to_thread(wait_for, lambda: bench.leftovers() == [])


def has_modules(folder: str) -> bool:
    return "titan_job.py" in os.listdir(folder)


def parent(pid: str) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
