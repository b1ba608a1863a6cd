"""What `pip install .` alone gives: the SDK and the command, typed, with the runtime that travels with jobs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.rules.sources import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEST_TOOLS = {"pytest", "hypothesis", "mypy", "ruff", "coverage"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(ROOT),
    )
    (built,) = folder.glob("airflow_provider_titan-*.whl")
    return built


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_holds_both_packages_typed_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"titan_sdk/py.typed", "titan_provider/py.typed"} <= set(names)
    assert {name.split("/")[0] for name in names} == {
        "titan_sdk",
        "titan_provider",
        f"airflow_provider_titan-{PROJECT['version']}.dist-info",
    }


def test_installed_alone_the_sdk_imports_without_airflow(wheel: Path, tmp_path: Path) -> None:
    """A fresh environment without any dependency, as for `pip install --no-deps`."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    (library,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(library)
    script = (
        "import titan_sdk, sys; from titan_sdk import TitanClient, TitanJob; from titan_sdk.cluster import LocalCluster;"
        "assert not any(m.split('.')[0] == 'airflow' for m in sys.modules); print(titan_sdk.__file__)"
    )
    assert str(library) in _run(str(python), "-I", "-c", script)


def test_no_test_tool_among_what_users_install() -> None:
    extras = PROJECT["optional-dependencies"]
    users = PROJECT["dependencies"] + [
        r for name, group in extras.items() if name not in {"dev", "e2e"} for r in group
    ]
    assert not {r for r in users if r.split(">")[0].split("[")[0].lower() in TEST_TOOLS}


def test_version_is_the_same_everywhere() -> None:
    import titan_provider
    import titan_sdk

    assert titan_sdk.__version__ == titan_provider.__version__ == PROJECT["version"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
