"""The worker's Python is not ours: every version from 3.8 on that this machine has, and those that are too old."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.runtime_bench import Bench

NEW = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
OLD = ("2.7", "3.6", "3.7")

MAIN = """
import multiprocessing, os, pickle, sys, titan_job

class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x

def double(point): return Point(point.x * 2)

if __name__ == "__main__":
    assert pickle.loads(pickle.dumps(Point(1))) == Point(1)
    assert sys.modules["__main__"].Point is Point and Point.__module__ == "__main__"
    assert "_titan_runner" not in globals() and __spec__ is None and __file__ == sys.argv[0]
    found = {}
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            found[method] = [p.x for p in pool.map(double, [Point(1), Point(2)])]
    titan_job.result({"version": "%d.%d" % sys.version_info[:2], "found": found})
    print("done")
    raise LookupError("and a traceback")
"""


def interpreter(version: str) -> str:
    """Path of that Python, from pyenv or the PATH, if it works."""
    candidates = [
        *sorted(str(path) for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python")),
        shutil.which(f"python{version}"),
    ]
    for path in filter(None, candidates):
        done = subprocess.run(
            [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
        )
        if done.stdout.strip() == version:
            return path
    pytest.skip(f"no Python {version} on this machine")


@pytest.mark.parametrize("version", NEW)
def test_scripts_are_the_real_main_on_every_supported_python(bench: Bench, version: str) -> None:
    spec = bench.spec(MAIN, python=interpreter(version))
    done = bench.run(spec)
    assert done.code == 1, done.text
    pairs = {method: [2, 4] for method in ("fork", "spawn", "forkserver")}
    assert bench.result(spec) == {"version": version, "found": pairs}
    state = bench.state(spec)
    assert state.exception is not None
    assert state.exception.type == "LookupError"
    assert bench.log(spec) == done.text
    assert done.text.startswith("done\nTraceback (most recent call last):\n")
    assert "titan_runtime" not in done.text


@pytest.mark.parametrize("version", OLD)
def test_a_python_that_is_too_old_is_refused_by_its_version(bench: Bench, version: str) -> None:
    done = bench.run(bench.spec("open('ran', 'w')", python=interpreter(version)))
    assert done.code == 98
    assert f"Python here is {version}; install 3.8 or later" in done.text
    assert not (bench.shared / "ran").exists()


def test_an_old_python3_gives_way_to_a_newer_one(bench: Bench, tmp_path: Path) -> None:
    """As on enterprise Linux: python3 is 3.6 and python3.11 lies beside it."""
    (tmp_path / "python3").symlink_to(interpreter("3.7"))
    (tmp_path / "python3.8").symlink_to(interpreter("3.8"))
    done = bench.run(bench.spec("import sys; print(sys.version_info[:2])"), PATH=str(tmp_path))
    assert (done.code, done.text) == (0, "(3, 8)\n")
