"""The real command, in this process for speed; what concerns processes is in test_up.py and test_process.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.conftest import Master
from titan_sdk.cli.main import app


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``titan`` with these arguments and no master in the environment; bugs keep their traceback."""
    for name in ("TITAN_HOST", "TITAN_PORT", "TITAN_TIMEOUT", "TITAN_WORKER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object, stdin: str | None = None) -> Ran:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def titan(bare: Run, cluster: Master, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``titan`` against the session's master."""
    monkeypatch.setenv("TITAN_HOST", cluster.host)
    monkeypatch.setenv("TITAN_PORT", str(cluster.port))
    return bare


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """Write a Python script for a job."""

    def write(text: str, name: str = "job.py") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
