"""Nothing that is true only of one machine gets into the repository."""

from __future__ import annotations

import re

import pytest

from tests.rules.sources import ROOT, committed_files

# Written in pieces, or this file would match itself.
REGISTRY_HOSTS = [
    r"(test\.)?pypi" + r"\.org",
    "pythonhosted" + r"\.org",
    r"registry\.npmjs" + r"\.org",
    r"deb\.debian" + r"\.org",
    r"proxy\.golang" + r"\.org",
]
MACHINE_PATHS = [
    r"(?<![\w.])/wor" + r"k/(main|shared|\.)",
    r"/roo" + r"t/\.",
    r"/opt/py" + "pi",
    r"/tmp/w" + "/",
]
TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".sh", ".cfg", ".json", ""}
MAX_BYTES = 512 * 1024


@pytest.mark.parametrize("pattern", REGISTRY_HOSTS + MACHINE_PATHS)
def test_no_registry_host_and_no_path_of_one_machine(pattern: str) -> None:
    texts = [path for path in committed_files() if path.suffix in TEXT]
    found = [
        path.relative_to(ROOT).as_posix()
        for path in texts
        if re.search(pattern, path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found


def test_no_large_file_is_committed() -> None:
    large = [path.name for path in committed_files() if path.stat().st_size > MAX_BYTES]
    assert not large


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-airflow2.txt"])
def test_constraints_pin_exactly_and_name_no_index(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[\w.!+]+", line)] == []
