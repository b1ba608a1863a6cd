"""`import titan_sdk` needs Python and nothing else, whatever is installed beside it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.rules.sources import ROOT

PROBE = """
import json, sys
sys.path.insert(0, {root!r})
before = set(sys.modules)
import titan_sdk
for name in titan_sdk.__all__:
    getattr(titan_sdk, name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    """Modules that the facade and every name on it bring in, in an interpreter without site-packages."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROBE.format(root=str(ROOT))],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_import_titan_sdk_loads_the_standard_library_only(loaded: list[str]) -> None:
    roots = {name.split(".")[0] for name in loaded}
    assert roots - sys.stdlib_module_names == {"titan_sdk"}


def test_a_name_is_loaded_when_it_is_used() -> None:
    probe = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import titan_sdk; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", probe], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [name for name in done.stdout.split() if name.startswith("titan_sdk")] == ["titan_sdk"]


def test_import_titan_sdk_does_not_load_the_cluster_or_the_cli(loaded: list[str]) -> None:
    parts = {name.split(".")[1] for name in loaded if name.startswith("titan_sdk.")}
    assert not parts & {"cluster", "cli"}


@pytest.mark.parametrize(("name", "most"), [("TitanClient", 30), ("TitanJob", 9), ("AsyncTitanClient", 32)])
def test_a_client_loads_what_it_does_when_it_does_it(name: str, most: int) -> None:
    probe = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from titan_sdk import {name}; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", probe], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert len([module for module in loaded if module.startswith("titan_sdk")]) <= most
    assert ("asyncio" in loaded) is name.startswith("Async")
    if name == "TitanClient":
        # A millisecond and more for each, which few scripts have a use for.
        late = {
            "ssl",
            "hashlib",
            "pathlib",
            "datetime",
            "decimal",
            "difflib",
            "ipaddress",
            "random",
            "urllib.parse",
        }
        assert not late & set(loaded)


def test_the_command_loads_a_subject_when_it_is_used() -> None:
    probe = "import sys; from titan_sdk.cli.main import app; app(['--version'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=300, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    loaded = {name for name in done.stdout.split() if name.startswith(("titan_sdk", "rich", "asyncio"))}
    assert loaded == {
        "titan_sdk",
        "titan_sdk.cli",
        "titan_sdk.cli.context",
        "titan_sdk.cli.exit_codes",
        "titan_sdk.cli.main",
        "titan_sdk.cli.output",
        "titan_sdk.errors",
    }
