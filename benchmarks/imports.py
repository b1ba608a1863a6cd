"""What starts often, and so has to start fast: processor time of an import and of `titan --version`, bare Python's included."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.frame import Figure, Rounds

ROUNDS = 30
_BARE = "bare Python"
_OURS = {
    "import titan_sdk": (["-c", "import titan_sdk"], "value <= 80"),
    "from titan_sdk import TitanClient": (["-c", "from titan_sdk import TitanClient"], ""),
    "titan --version": (["-m", "titan_sdk", "--version"], "value <= 150"),
}
_THEIRS = "from titan_sdk import TitanClient, upstream's SDK"


def run(scale: float, upstream: Path | None = None) -> Iterator[Figure]:
    """Measure.

    Args:
        upstream: a checkout of upstream's project; without it its row is left out.
    """
    kinds = {_BARE: ["-c", ""], "import requests": ["-c", "import requests"]}
    kinds |= {what: arguments for what, (arguments, _) in _OURS.items()}
    root = Path(__file__).parent.parent
    folders = dict.fromkeys(kinds, root)
    if upstream is None:
        print("  left out: upstream's SDK, as --upstream names no checkout of it")
    else:
        kinds[_THEIRS], folders[_THEIRS] = ["-c", "from titan_sdk import TitanClient"], upstream
    rounds = Rounds()
    with tempfile.TemporaryDirectory(prefix="titan-bench-") as elsewhere:
        for turn in range(-1, max(int(ROUNDS * scale), 3)):  # the first one compiles, and does not count
            for what, arguments in kinds.items():
                took = _processor_time(arguments, folders[what], elsewhere)
                if turn >= 0:
                    rounds.note(what, took * 1000)
    for what in kinds:
        if what != _BARE:
            ceiling = _OURS[what][1] if what in _OURS else ""
            yield rounds.figure(f"`{what}`, processor time", "ms", what, _BARE, _BARE, ceiling)


def _processor_time(arguments: list[str], folder: Path, elsewhere: str) -> float:
    """Seconds that a Python process spends, with the packages of that folder before all others."""
    environ = os.environ | {"PYTHONPATH": str(folder.absolute())}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=elsewhere,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {said}")
    return used.ru_utime + used.ru_stime
