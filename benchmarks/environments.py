"""A job with packages of its own: beside the same job without, `uv run --with`, and a Ray task with `runtime_env`.

Nothing is downloaded: the one package is a wheel of a few hundred bytes, in a folder. A Ray task gets a process of its own, as
a job does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.frame import Figure, Rounds, timed
from benchmarks.masters import bundled
from tests.support.wheels import make_wheel
from titan_sdk import TitanClient, TitanJob

TURNS = 10
"""Second to eleventh use of an environment that stands."""
AT_ONCE = 8

_RAY = """
import os, subprocess, sys, time
os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes ~/.ray/auth_token, which switches tokens on from then on
import ray
ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
@ray.remote(max_calls=1)
def use():
    import demo
    return demo.VERSION
for line in sys.stdin:
    begun = time.perf_counter()
    count = int(line)
    ray.get([use.options(runtime_env={"pip": ["demo"]}).remote() for _ in range(count)])
    print(time.perf_counter() - begun, flush=True)
"""


def run(scale: float) -> Iterator[Figure]:
    turns = max(int(TURNS * scale), 3)
    with tempfile.TemporaryDirectory(prefix="titan-bench-environments-") as name:
        folder = Path(name)
        make_wheel(folder / "wheels", "demo")
        with _worker_settings(folder), bundled("--workers", f"GENERAL={AT_ONCE}") as front:
            yield from _measure(front.client, folder, turns)


@contextlib.contextmanager
def _worker_settings(folder: Path) -> Iterator[None]:
    """Where installers look, and where what they make is kept, for all that is started here."""
    before = dict(os.environ)
    wheels = str(folder / "wheels")
    os.environ.update(
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=wheels,
        PIP_CONFIG_FILE="/dev/null",
        XDG_CACHE_HOME=str(folder / "cache"),
    )
    os.environ.update(UV_NO_INDEX="1", UV_FIND_LINKS=wheels, UV_OFFLINE="1", UV_CACHE_DIR=str(folder / "uv"))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _measure(client: TitanClient, folder: Path, turns: int) -> Iterator[Figure]:
    script = folder / "use.py"
    script.write_text("import demo\n", encoding="utf-8")
    empty = folder / "empty.py"
    empty.write_text("pass\n", encoding="utf-8")

    def ours(path: Path, requirements: list[str] | None) -> Callable[[int], float]:
        return lambda count: timed(lambda: _jobs(client, path, requirements, count))

    with contextlib.ExitStack() as stack:
        ways: dict[str, Callable[[int], float]] = {"none": ours(empty, None), "ours": ours(script, ["demo"])}
        if uv := shutil.which("uv"):
            words = [
                uv,
                "run",
                "--no-project",
                "-q",
                "--python",
                sys.executable,
                "--with",
                "demo",
                str(script),
            ]
            ways["uv run --with"] = lambda count: timed(lambda: _at_once(words, count))
        if all(importlib.util.find_spec(name) for name in ("ray", "aiohttp", "virtualenv")):
            ways["Ray's runtime_env"] = stack.enter_context(_ray())
        first = {name: way(1) for name, way in ways.items()}
        rounds = Rounds()
        for _ in range(turns):
            for name, way in ways.items():
                rounds.note(name, way(1) * 1e3)
        for _ in range(3):
            for name, way in ways.items():
                rounds.note(f"{name}, at once", way(AT_ONCE) * 1e3)
    others = [name for name in ways if name not in ("none", "ours")]
    for name in ("ours", *others):
        yield Figure(f"first use of an environment: {name}", first[name] * 1e3, "ms")
    yield rounds.figure(
        "a job whose environment stands", "ms", "ours", "none", "a job without packages", "over <= 50"
    )
    for other in others:
        yield rounds.figure("a job whose environment stands", "ms", "ours", other, other)
    for other in ("none", *others):
        against = f"{'the same without packages' if other == 'none' else other}, {AT_ONCE} at once"
        yield rounds.figure(
            f"{AT_ONCE} such jobs at once", "ms", "ours, at once", f"{other}, at once", against
        )


def _jobs(client: TitanClient, script: Path, requirements: list[str] | None, count: int) -> None:
    name = f"e{time.monotonic_ns()}"
    jobs = [TitanJob(f"{name}-{n}", str(script), requirements=requirements) for n in range(count)]
    client.submit_dag(name, jobs).wait(timeout=600)


def _at_once(words: list[str], count: int) -> None:
    with ThreadPoolExecutor(count) as threads:
        list(threads.map(lambda _: subprocess.run(words, check=True), range(count)))


@contextlib.contextmanager
def _ray() -> Iterator[Callable[[int], float]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _RAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asked, told = process.stdin, process.stdout

    def use(count: int) -> float:
        asked.write(f"{count}\n")
        asked.flush()
        return float(told.readline())

    try:
        yield use
    finally:
        asked.close()
        process.wait(timeout=120)
        told.close()
