"""The contract suite: every operation, on both clients, on whichever master `--titan-address` names."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.blocking_async import BlockingAsyncClient
from titan_sdk import TitanClient


@pytest.fixture(params=["sync", "async"])
def api(request: pytest.FixtureRequest, cluster: Any) -> Iterator[Any]:
    """Either client behind the same blocking names, so that one test body proves both."""
    if request.param == "sync":
        with TitanClient(cluster.host, cluster.port) as connected:
            yield connected
        return
    with BlockingAsyncClient(cluster.host, cluster.port) as connected:
        yield connected


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Ids and keys nobody used before: both are global and permanent on a master."""
    return lambda name: f"{name}-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """Writes a script and gives its path."""

    def write(text: str, name: str = "script.py") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write
