"""One SDK, measured in a process of its own; prints one JSON object. Run by ``benchmarks.sdk``.

Both packages are called ``titan_sdk``, and a client's memory is a process's, so each side is a process. The two
sides do the same: ``Upstream`` and ``Ours`` only spell it differently.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

SMALL, LARGE = "v" * 100, "v" * (1024 * 1024)
UPLOAD = 7 * 1024 * 1024
CHAIN = 20
# The jobs are never run: what is measured is their submission. A master keeps them until it is stopped.
DELAY_MS = 3_600_000


PATIENCE = 120
ENDED = {"COMPLETED", "FAILED", "DEAD", "CANCELLED"}


class NeverEnded(Exception):
    """Jobs that a master lost: a real one does not register a child whose parent has ended already."""


class Upstream:
    """The public project's client. ``submit`` is its bare request, ``submit_whole`` all that its users call."""

    def __init__(self, script: str) -> None:
        from titan_sdk import titan_sdk as sdk  # the checkout's, put on the path by the caller

        self.script, self.sdk, self.client = script, sdk, sdk.TitanClient()
        self.status = self.client.get_job_status
        self.put, self.get = self.client.store_put, self.client.store_get
        self.upload = self.client.upload_file

    def jobs(self, count: int) -> list[Any]:
        return [self.sdk.TitanJob(_name(), self.script, delay=DELAY_MS) for _ in range(count)]

    def job(self, script: str, parents: list[str] | None = None) -> Any:
        return self.sdk.TitanJob(_name(), script, parents=parents)

    def id_of(self, job: Any) -> str:
        return str(job.id)

    def run(self, jobs: list[Any]) -> None:
        self.client.submit_dag("bench", jobs)
        # Its own wait never ends on a real master, which knows jobs by a longer id than it asks for.
        pending, until = [f"DAG-{job.id}" for job in jobs], time.monotonic() + PATIENCE
        while pending := [job_id for job_id in pending if self.status(job_id) not in ENDED]:
            if time.monotonic() > until:
                raise NeverEnded(f"{len(pending)} of {len(jobs)} jobs have not ended in {PATIENCE} s")
            time.sleep(0.01)

    def download(self, name: str, path: str) -> object:
        return self.client.fetch_artifact(name, path)

    def submit(self, jobs: list[Any]) -> object:
        return self.client._send_request(self.sdk.OP_SUBMIT_DAG, " ; ".join(job.to_string() for job in jobs))

    def submit_whole(self, jobs: list[Any]) -> object:
        return self.client.submit_dag("bench", jobs)


class Ours:
    """This SDK, sending the same bytes: ``runtime=False``."""

    def __init__(self, script: str) -> None:
        import titan_sdk
        from titan_sdk.flows.core import ask
        from titan_sdk.flows.staging import plain_line
        from titan_sdk.wire import calls

        self.script, self.sdk = script, titan_sdk
        self.ask, self.call = ask, calls.submit_dag
        self.line = lambda job: plain_line(job, b"pass\n", (), "")
        self.client = titan_sdk.TitanClient()
        self.status = self.client.get_job_status
        self.put, self.get = self.client.store_put, self.client.store_get
        self.upload = self.client.upload_file

    def jobs(self, count: int) -> list[Any]:
        return [self.sdk.TitanJob(_name(), self.script, delay=DELAY_MS, runtime=False) for _ in range(count)]

    def job(self, script: str, parents: list[str] | None = None) -> Any:
        return self.sdk.TitanJob(_name(), script, parents=parents, runtime=False)

    def id_of(self, job: Any) -> str:
        return str(job.job_id)

    def run(self, jobs: list[Any]) -> None:
        self.client.submit_dag(_name(), jobs).wait()

    def download(self, name: str, path: str) -> object:
        return self.client.fetch_artifact(name, path)

    def submit(self, jobs: list[Any]) -> object:
        return self.client._run(self.ask(self.call([self.line(job) for job in jobs])))

    def submit_whole(self, jobs: list[Any]) -> object:
        return self.client.submit_dag("bench", jobs)


def _name() -> str:
    return f"bench-{uuid.uuid4().hex}"


def _rate(action: Callable[[], object], seconds: float) -> float:
    action()
    done, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < seconds or done < 3:
        action()
        done += 1
    return done / took


def _submissions(side: Any, seconds: float) -> dict[str, float]:
    found = {}
    for count in (1, 100):
        for label, send in (("call", side.submit), ("whole", side.submit_whole)):
            # Made beforehand, as reading scripts is no part of it.
            batches = [side.jobs(count) for _ in range(max(3, int(seconds * (400 if count == 1 else 8))))]
            started = time.perf_counter()
            for batch in batches:
                send(batch)
            found[f"submit {count}, {label}"] = len(batches) / (time.perf_counter() - started)
    return found


def measure(side: Any, seconds: float, folder: Path) -> dict[str, float]:
    """Operations per second."""
    side.put("bench-small", SMALL)
    side.put("bench-large", LARGE)
    upload = folder / "upload.bin"
    upload.write_bytes(os.urandom(UPLOAD))
    return {
        "status": _rate(lambda: side.status("DAG-bench-none"), seconds),
        "put 100 B": _rate(lambda: side.put("bench-small", SMALL), seconds),
        "get 100 B": _rate(lambda: side.get("bench-small"), seconds),
        "put 1 MiB": _rate(lambda: side.put("bench-large", LARGE), seconds),
        "get 1 MiB": _rate(lambda: side.get("bench-large"), seconds),
        **_submissions(side, seconds),
        "upload 7 MiB": _rate(lambda: side.upload(str(upload)), seconds),
    }


def whole(side: Any, count: int, folder: Path) -> dict[str, float]:
    """What users wait for: jobs, their ends, values and files. What does not come to an end is left out."""
    side.run([side.job(side.script)])
    chain = [side.job(side.script)]
    while len(chain) < CHAIN:
        chain.append(side.job(side.script, [side.id_of(chain[-1])]))
    jobs = [side.job(side.script) for _ in range(count)]
    found = {}
    for what, measure in {
        "jobs": lambda: count / _took(lambda: side.run(jobs)),
        "one job": lambda: statistics.median(
            _took(lambda: side.run([side.job(side.script)])) for _ in range(10)
        ),
        "wake-up": lambda: statistics.median(_wake_up(side, folder) for _ in range(20)),
        "chain": lambda: _took(lambda: side.run(chain)),
    }.items():
        try:
            found[what] = measure()
        except NeverEnded as exc:
            print(f"{what}: {exc}", file=sys.stderr)
    store = {
        f"{verb} {label}": _rate(functools.partial(action, *more), 0.5)
        for label, value in (("100 B", SMALL), ("1 MiB", LARGE))
        for verb, action, more in (("put", side.put, ("bench", value)), ("get", side.get, ("bench",)))
    }
    return {**found, **store, **_artifact(side, folder)}


def _took(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _wake_up(side: Any, folder: Path) -> float:
    """From a job's last statement, so the end of its interpreter is in it, until its waiter knows."""
    script, left = folder / "last.py", folder / "ended"
    script.write_text(
        f"import os, time\nopen({str(left)!r}, 'w').write(str(time.time()))\n", encoding="utf-8"
    )
    side.run([side.job(str(script))])
    return time.time() - float(left.read_text(encoding="ascii"))


def _artifact(side: Any, folder: Path) -> dict[str, float]:
    path = folder / "artifact.bin"
    path.write_bytes(os.urandom(UPLOAD))
    mib = UPLOAD / 1024**2
    return {
        "artifact up": mib / min(_took(lambda: side.upload(str(path))) for _ in range(3)),
        "artifact down": mib
        / min(_took(lambda: side.download(path.name, str(folder / "back.bin"))) for _ in range(3)),
    }


def memory(side: Any, size: int, folder: Path) -> dict[str, float]:
    """MiB by which the process grew while it uploaded a file of that size, and how long that took."""
    path = folder / f"upload-{size}.bin"
    with path.open("wb") as file:
        file.truncate(size)
    side.status("DAG-bench-none")
    before, started = _peak(), time.perf_counter()
    side.upload(str(path))
    return {"seconds": time.perf_counter() - started, "grew": _peak() - before, "peak": _peak()}


def _peak() -> float:
    # Not getrusage: its figure begins with that of the process this one was started by.
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not tell a process's peak memory")


def main() -> None:
    what, name, amount = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.chdir(folder)  # upstream's client writes its manifest where it runs
        script = folder / "noop.py"
        script.write_text("pass\n", encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()):  # upstream's client talks
            side = Upstream(str(script)) if name == "upstream" else Ours(str(script))
            if what == "measure":
                found = measure(side, float(amount), folder)
            elif what == "whole":
                found = whole(side, int(amount), folder)
            else:
                found = memory(side, int(amount), folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
