"""Hazards of a real Titan, reproduced. ``--titan-address`` asks a real one whether it has them: a fresh one for each test,
as ids and what a test breaks stay (the pace is the real one's then, so a test may take minutes).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Master
from tests.sdk.cluster.peer import Meeting, Peer
from titan_sdk.cluster import LocalCluster
from titan_sdk.strict import StrictSettings

QUICK = StrictSettings(
    no_worker_pause=0.2,
    saturated_pause=0.05,
    first_heartbeat=0.2,
    heartbeat=0.2,
    reregister=0.3,
    log_flush=0.3,
    deploy_poll=0.1,
    service_restart=0.2,
    plain_job_limit=0.4,
    callback_pauses=(0.1,),
)
"""The real hazards at a pace that a test can wait for."""


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster | Master]:
    address: str | None = request.config.getoption("--titan-address")
    if address is not None:
        host, _, port = address.rpartition(":")
        yield Master(host, int(port))
        return
    with LocalCluster({"GENERAL": 1, "GPU": 1}, strict_titan=QUICK) as running:
        yield running


@pytest.fixture
def peer(cluster: LocalCluster) -> Peer:
    return Peer((cluster.host, cluster.port))


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    made = Meeting()
    yield made
    made.close()


def eventually(condition: Callable[[], object], seconds: float = 70) -> None:
    """Look again and again until it holds."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        pause.wait(0.005)


def load(peer: Peer, tag: str = "GENERAL") -> str:
    """What the master believes of the load of the worker with that tag; it lists them in no order."""
    workers = json.loads(peer.ask(0x09).text)["workers"]
    return next(str(worker["load"]) for worker in workers if tag in worker["capabilities"])
