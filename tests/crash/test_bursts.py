"""`kill -9` in the middle of submissions that come as fast as they are answered, of jobs that do not start.

So most of what was acknowledged is not in the database yet, as nothing that follows has taken it there.
"""

from __future__ import annotations

import random
import threading
import uuid
from pathlib import Path

import pytest

from tests.crash.test_kills import KILLS, SEED
from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Peer, script

# Slow: Masters are killed and started again, many times.
pytestmark = pytest.mark.slow


class Burst:
    """Runs until the master is gone."""

    def __init__(self, peer: Peer, name: str) -> None:
        self._peer, self._name = peer, name
        self.acknowledged: list[str] = []
        self.under_way = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while True:
            number += 1
            job_id = f"{self._name}-{number}"
            try:
                reply = self._peer.submit(script(job_id, "pass", delay=3_600_000))
            except (OSError, EOFError):
                return
            assert reply.text == "DAG_ACCEPTED"
            self.acknowledged.append(f"DAG-{job_id}")
            self.under_way.set()


@pytest.mark.timeout(120 + 6 * KILLS)
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_every_acknowledged_submission_of_a_burst_is_there(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = {}
    if store == "redis":
        url = request.getfixturevalue("redis_server").url
        settings = {"store": url, "store_prefix": uuid.uuid4().hex, "store_lease_seconds": 0.3}
    master, pause = MasterProcess(tmp_path / "data", **settings), threading.Event()
    peer = master.start()
    acknowledged: list[str] = []
    chance = random.Random(SEED)
    try:
        for number in range(KILLS):
            burst = Burst(peer, f"b{number}")
            assert burst.under_way.wait(300)
            pause.wait(chance.uniform(0.0, 0.1))
            master.kill()
            burst.join()
            acknowledged += burst.acknowledged
            peer = master.start()
        lost = [job_id for job_id in acknowledged if peer.status(job_id) != "PENDING"]
        assert not lost, f"seed {SEED}: {len(lost)} of {len(acknowledged)}: {lost[:5]}"
    finally:
        master.close()
