"""KILL_WORKER and the other requests that change the cluster itself."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.sdk.cluster.peer import Meeting, Peer, script
from titan_sdk.cluster import LocalCluster


@pytest.fixture
def peer() -> Iterator[Peer]:
    with LocalCluster(workers={"GENERAL": 2}) as cluster:
        yield Peer((cluster.host, cluster.port))


def test_the_jobs_of_a_killed_worker_run_on_another(peer: Peer, meeting: Meeting) -> None:
    code = "import os; word = os.environ['TITAN_WORKER']\n" + meeting.code("@").replace(
        "b'@'", "word.encode()"
    )
    peer.submit(script("job", code))
    assert meeting.arrival()[0] == "GENERAL-1"
    assert peer.ask(0x11, "localhost|8080").text == "SUCCESS: Worker 8080 and 0 services shut down."
    assert meeting.arrival()[0] == "GENERAL-2"
    meeting.let_go()
    assert peer.until("job") == "COMPLETED"
    assert json.loads(peer.ask(0x09).text)["active_workers"] == 1
    assert peer.ask(0x11, "localhost|8080").text == "ERROR: Worker node 8080 not found in registry."


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        ("nonsense", "ERROR: Payload must be HOST|PORT"),
        ("a|b|c", "ERROR: Payload must be HOST|PORT"),
        ("localhost|x", "ERROR: Invalid Port Format"),
        ("localhost|1", "ERROR: Worker node 1 not found in registry."),
        ("elsewhere|8080", "ERROR: Worker node 8080 not found in registry."),
    ],
)
def test_a_wrong_worker_is_refused(peer: Peer, payload: str, reply: str) -> None:
    assert peer.ask(0x11, payload).text == reply


def test_unregistering_a_service_is_acknowledged(peer: Peer) -> None:
    assert peer.ask(0x0A, "DAG-any").text == "ACK_UNREGISTERED"
