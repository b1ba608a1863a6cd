"""Protocol section 12, hazard by hazard: the public SDK against a master that has them all.

By default that master is ``LocalCluster(strict_titan=True)``; with ``--titan-address`` it is the real one, and with
``--titan-engine`` or ``--titan-store`` the bundled one, which has none of them. What takes control over the master
(``needs("master_control")``) is proven on the strict one only.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Master, serve_cluster
from tests.sdk.cluster.peer import Meeting, Peer
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.strict import StrictSettings

PACE = StrictSettings(first_heartbeat=0.5, heartbeat=0.5, no_worker_pause=0.5, log_flush=0.5)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A master with the hazards; tests that leave it damaged use ``own`` instead."""
    address: str | None = request.config.getoption("--titan-address")
    if address is not None:
        host, _, port = address.rpartition(":")
        yield Master(host, int(port))
        return
    if not _strict(request):
        yield from serve_cluster(request, tmp_path_factory)
        return
    with LocalCluster({"GENERAL": 1, "GPU": 1}, strict_titan=PACE) as running:
        yield running


def _strict(request: pytest.FixtureRequest) -> bool:
    given = [
        request.config.getoption(name) for name in ("--titan-address", "--titan-engine", "--titan-store")
    ]
    return given == [None, "process", "sqlite"]


@pytest.fixture(scope="session")
def capabilities(request: pytest.FixtureRequest) -> frozenset[str]:
    """``hazards``: whether the master has them; ``master_control``: whether the tests may restart the master, stop its store and lose its workers."""
    if _strict(request):
        return frozenset({"hazards", "master_control"})
    return frozenset({"hazards"}) if request.config.getoption("--titan-address") else frozenset()


@pytest.fixture
def settings() -> StrictSettings:
    """Of ``own``; override it where the pace matters."""
    return StrictSettings(first_heartbeat=0.2, heartbeat=0.2, reregister=0.2, no_worker_pause=0.2)


@pytest.fixture
def own(settings: StrictSettings) -> Iterator[LocalCluster]:
    """A strict master of the test's own, to be disturbed."""
    with LocalCluster({"GENERAL": 1}, strict_titan=settings) as running:
        yield running


@pytest.fixture
def own_client(own: LocalCluster) -> Iterator[TitanClient]:
    with TitanClient(own.host, own.port) as connected:
        yield connected


@pytest.fixture
def peer(cluster: Any) -> Peer:
    """The bare protocol, to show what the master itself does."""
    return Peer((cluster.host, cluster.port))


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    made = Meeting()
    yield made
    made.close()


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., TitanJob]:
    """Makes a job of an id nobody used before, in a folder of its own."""

    def make(code: str = "pass", name: str = "job", file: str = "main.py", **options: Any) -> TitanJob:
        job_id = f"{name}-{uuid.uuid4().hex[:10]}"
        folder = tmp_path / job_id
        folder.mkdir()
        (folder / file).write_text(code, encoding="utf-8")
        return TitanJob(job_id, str(folder / file), **options)

    return make


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Looks again and again until a condition holds."""

    def look(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 240
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, "it never came to hold"
            pause.wait(0.01)

    return look
