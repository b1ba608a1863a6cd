"""How many small faults in a room do its own fast tests notice? `python -m benchmarks.mutants ROOM [COUNT]`, with mutmut installed.

mutmut writes every function with its mutants beside it; a name in the environment says which of them is called. Each one of a
seeded sample is tried in a fork that has the libraries loaded and loads the tests anew: what they make while they are collected
is the mutant's, too. Results: ``benchmarks/results/mutants.md``.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

SEED = 14
COUNT = 90
PROCESSOR_SECONDS = 60
"""A mutant that needs more loops for ever, and counts as noticed."""
WORK = "tests/provider/work"
ROOMS = {
    "wire": ("titan_sdk/wire/*.py", ["tests/sdk/wire"]),
    "flows": ("titan_sdk/flows/*.py", ["tests/sdk/flows", "--ignore=tests/sdk/flows/test_submit_cut.py"]),
    "scheduler": ("titan_sdk/cluster/master/scheduler/*.py", ["tests/sdk/cluster/scheduler"]),
    "plan": ("titan_provider/work/plan.py", [f"{WORK}/test_plan.py", f"{WORK}/test_make_plan.py"]),
    "admission": ("titan_provider/work/admission.py", [f"{WORK}/test_window.py"]),
}
"""The files, and their fast tests."""
_SETTINGS = """[mutmut]
source_paths =
    titan_sdk
    titan_provider
only_mutate = {files}
pytest_add_cli_args_test_selection = tests/sdk/wire/test_once.py
"""
_PYTEST = ["-x", "-q", *(word for name in ("cacheprovider", "xdist", "cov") for word in ("-p", f"no:{name}"))]


def main(room: str, count: str = str(COUNT)) -> None:
    files, tests = ROOMS[room]
    with tempfile.TemporaryDirectory(prefix="titan-mutants-") as name:
        names = _write_mutants(Path(name), files)
        sample = sorted(names)
        random.Random(SEED).shuffle(sample)
        os.chdir(Path(name, "mutants"))
        sys.path.insert(0, os.getcwd())
        _load(tests)
        if _survives("", tests) is False:
            raise SystemExit(f"without any mutant the tests fail; see {_said()}")
        survivors = [mutant for mutant in sample[: int(count)] if _survives(mutant, tests)]
        tried = min(int(count), len(sample))
        for mutant in survivors:
            command = [sys.executable, "-m", "mutmut", "show", mutant]
            print(subprocess.run(command, cwd=name, capture_output=True, text=True).stdout)
    print(
        f"{room}: {tried - len(survivors)} of {tried} noticed, {(1 - len(survivors) / tried):.1%}; {len(sample)} in all"
    )


def _write_mutants(folder: Path, files: str) -> list[str]:
    """A copy of what git tracks, with the mutants in its folder ``mutants``; their names."""
    root = Path(__file__).parent.parent
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((root / name).read_bytes())
    (folder / "setup.cfg").write_text(_SETTINGS.format(files=files), encoding="utf-8")
    # It writes all of them, then says that none is called so.
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", "none"]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    found = [json.loads(path.read_text("utf-8")) for path in (folder / "mutants").rglob("*.meta")]
    if not found:
        raise SystemExit(said.stdout[-2000:] + said.stderr[-2000:])
    return [mutant for file in found for mutant in file["exit_code_by_key"]]


def _load(tests: list[str]) -> None:
    import pytest

    if pytest.main(["--collect-only", "-q", *_PYTEST, *tests]):
        raise SystemExit("the tests cannot be collected")


def _survives(mutant: str, tests: list[str]) -> bool:
    pid = os.fork()
    if pid == 0:
        _try(mutant, tests)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _try(mutant: str, tests: list[str]) -> None:
    """Does not return."""
    import pytest

    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
    said = os.open(_said(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.environ["MUTANT_UNDER_TEST"] = mutant
    for name in [name for name in sys.modules if name.split(".")[0] in {"tests", "conftest"}]:
        del sys.modules[name]
    code = pytest.main([*_PYTEST, *tests])
    sys.stdout.flush()
    os._exit(int(code))


def _said() -> str:
    return f"{tempfile.gettempdir()}/titan-mutant.out"


if __name__ == "__main__":
    main(*sys.argv[1:])
