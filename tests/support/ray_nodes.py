"""A Ray cluster for tests: several raylets of this machine, on loopback only."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

__all__ = ["RayNodes", "need_ray"]

_PROGRAM = str(Path(__file__).with_name("ray_host.py"))


def need_ray() -> None:
    """Skip the test where the extra is missing."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed; `pip install ray` brings it")


class RayNodes:
    """The first node is the head."""

    def __init__(self, log: Path, **nodes: dict[str, Any]) -> None:
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            for name, resources in nodes.items():
                self.address = self.add(name, **resources)
        except BaseException:
            self.stop()
            raise

    def add(self, name: str, **resources: Any) -> str:
        """Start a node with so many ``num_cpus``, ``num_gpus`` and ``resources``, and with another interpreter
        ``python`` if that is given.
        """
        return str(self._ask("add", name, resources))

    def kill(self, name: str) -> None:
        self._ask("kill", name)

    def kill_head(self) -> None:
        self._ask("kill_head")

    def kill_actor(self, name: str) -> None:
        self._ask("kill_actor", name)

    def node(self, name: str) -> str:
        """As the front calls it."""
        return f"127.0.0.1-{self._ask('node_id', name)[:6]}"

    def pid(self, name: str) -> int:
        """Of its raylet."""
        return int(self._ask("pid", name))

    def _ask(self, *words: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the process with the Ray cluster is gone; see {self._log.name}"
        kind, value = json.loads(line)
        assert kind == "ok", value
        return value

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> RayNodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()
