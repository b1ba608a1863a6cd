"""One job's way through the code: files, moves between files, requests and store transactions, and the lines there are.

``python -m benchmarks.trace [--files]`` starts a master inside this process and traces one job with ``sys.setprofile``, once with
the runtime (the default) and once without. The client is the main thread, the master is every other one; functions of
``titan_sdk`` count and imports do not. A move is a call that enters another file than the one that ran before in that
thread. Transactions are the commits that SQLite sees. Requests are those that a master of a process of its own says it
answered, to the client and to the job's launcher. Each figure is the median of several jobs, after one that is not counted.
"""

from __future__ import annotations

import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.masters import Bundled, bundled
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster

ROOT = Path(__file__).parent.parent
SDK = f"{ROOT / 'titan_sdk'}/"
JOBS = 7
QUIET_SECONDS = 0.5
"""After a job's end: its records are stored and its folder is removed a moment later."""
SIDES = ("client", "master")
PARTS = (
    "titan_sdk",
    "titan_sdk/cluster",
    "titan_sdk/strict",
    "titan_sdk/runtime",
    "titan_provider",
    "tests",
    "benchmarks",
)


class Moves:
    """Files entered and moves between them, of each side; ``on`` says whether somebody counts."""

    def __init__(self) -> None:
        self.on = False
        self.restart()

    def restart(self) -> None:
        self.files: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
        self.moves: Counter[str] = Counter()
        self._last: dict[int, str] = {}

    def install(self) -> None:
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType, event: str, _arg: object) -> None:
        file = frame.f_code.co_filename
        if not self.on or event != "call" or not file.startswith(SDK) or frame.f_code.co_name == "<module>":
            return
        thread = threading.get_ident()
        side = SIDES[thread != threading.main_thread().ident]
        self.files[side][file.removeprefix(SDK)] += 1
        if self._last.get(thread) != file:
            self._last[thread] = file
            self.moves[side] += 1


class Commits:
    """Transactions that SQLite is told to keep, in this process."""

    def __init__(self) -> None:
        self.count = 0
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect

        def watched(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection = connect(*args, **kwargs)
            connection.set_trace_callback(self._statement)
            return connection

        sqlite3.connect = watched  # type: ignore[assignment]

    def _statement(self, text: str) -> None:
        self.count += text.lstrip().upper().startswith("COMMIT")


def trace() -> dict[str, dict[str, Any]]:
    """The cost of a job with the runtime and of one without."""
    moves, commits = Moves(), Commits()
    moves.install()
    found = {}
    with (
        tempfile.TemporaryDirectory(prefix="titan-trace-") as folder,
        LocalCluster({"GENERAL": 1}) as cluster,
        TitanClient(cluster.host, cluster.port) as client,
    ):
        script = Path(folder) / "noop.py"
        script.write_text("pass\n", encoding="utf-8")
        for kind, runtime in (("default", True), ("plain", False)):
            found[kind] = _inside(partial(_job, client, script, runtime), moves, commits)
        sys.setprofile(None)
        threading.setprofile(None)
        for kind, runtime in (("default", True), ("plain", False)):
            with bundled("--workers", "GENERAL=1") as master:
                found[kind] |= _asked(master, script, runtime)
    return found


def _job(client: TitanClient, script: Path, runtime: bool) -> None:
    client.submit_job(TitanJob(f"t{time.monotonic_ns()}", str(script), runtime=runtime)).wait()
    time.sleep(QUIET_SECONDS)


def _inside(job: Callable[[], None], moves: Moves, commits: Commits) -> dict[str, Any]:
    job()
    visits: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
    crossed: dict[str, list[int]] = {side: [] for side in SIDES}
    stored = []
    for _ in range(JOBS):
        moves.restart()
        before, moves.on = commits.count, True
        job()
        moves.on = False
        stored.append(commits.count - before)
        for side in SIDES:
            visits[side].update(set(moves.files[side]))
            crossed[side].append(moves.moves[side])
    found: dict[str, Any] = {"transactions": statistics.median(stored)}
    for side in SIDES:
        # A timer that happens to strike belongs to no job.
        usual = sorted(file for file, times in visits[side].items() if times > JOBS // 2)
        found[side] = {"files": len(usual), "moves": statistics.median(crossed[side]), "visited": usual}
    return found


def _asked(master: Bundled, script: Path, runtime: bool) -> dict[str, Any]:
    _job(master.client, script, runtime)
    samples = []
    for _ in range(JOBS):
        before = _answered(master)
        _job(master.client, script, runtime)
        samples.append(_answered(master) - before)
    usual = sorted(samples, key=Counter.total)[JOBS // 2]
    return {"requests": usual.total(), "requests by operation": dict(usual)}


def _answered(master: Bundled) -> Counter[str]:
    """Requests so far, by operation."""
    beginning = 'titan_requests_total{operation="'
    found = master.metrics().items()
    return Counter({name[len(beginning) : -2]: int(n) for name, n in found if name.startswith(beginning)})


def lines() -> dict[str, tuple[int, int, int]]:
    """Python files and their lines, and those among them that hold code: neither blank nor a comment."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    found = {}
    for part in PARTS:
        texts = [
            (ROOT / name).read_text("utf-8").splitlines() for name in tracked if name.startswith(f"{part}/")
        ]
        code = sum(
            bool(line.strip()) and not line.lstrip().startswith("#") for text in texts for line in text
        )
        found[part] = len(texts), sum(map(len, texts)), code
    return found


def show(files: bool) -> None:
    """Markdown, so that two runs stand side by side in benchmarks/results/house.md."""
    jobs = trace()
    print(
        "| one job | client: files | moves | master: files | moves | requests | transactions |\n"
        + "|---" * 7
        + "|"
    )
    for kind, found in jobs.items():
        sides = [found[side][what] for side in SIDES for what in ("files", "moves")]
        print("|", " | ".join(map(str, (kind, *sides, found["requests"], found["transactions"]))), "|")
    for kind, found in jobs.items():
        print(
            f"\n{kind}: "
            + ", ".join(f"{count} {name}" for name, count in sorted(found["requests by operation"].items()))
        )
    print("\n| Python | files | lines | without blanks and comments |\n" + "|---" * 4 + "|")
    for part, (count, written, code) in lines().items():
        print(f"| {part} | {count} | {written:,} | {code:,} |")
    for side in SIDES if files else ():
        print(f"\n{side}, default job: {' '.join(jobs['default'][side]['visited'])}")


if __name__ == "__main__":
    show("--files" in sys.argv)
