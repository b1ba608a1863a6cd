from __future__ import annotations

from dataclasses import replace

import pytest

from tests.sdk.cluster.peer import Meeting, Peer, script
from tests.sdk.strict.conftest import QUICK
from titan_sdk.cluster import LocalCluster
from titan_sdk.errors import InvalidArgument, TitanError
from titan_sdk.strict import StrictSettings

# Slow: The pauses of a real master are what is tested.
pytestmark = pytest.mark.slow


def test_bad_lines_are_dropped_behind_dag_accepted(peer: Peer) -> None:
    assert peer.submit(
        "garbage", "a|RUN_PAYLOAD|x.py||YQ==|GENERAL|high|0|[]", script("good", "pass")
    ).text == ("DAG_ACCEPTED")
    assert peer.until("DAG-good") == "COMPLETED"
    assert peer.status("DAG-a") == "NULL"
    assert peer.ask(0x04, "").text == peer.ask(0x04, ";;").text == "DAG_ACCEPTED"


def test_a_cycle_drops_the_whole_payload(peer: Peer) -> None:
    lines = (script("a", "pass", parents=["b"]), script("b", "pass", parents=["a"]), script("c", "pass"))
    assert peer.submit(*lines).text == "DAG_ACCEPTED"
    assert peer.submit(script("self", "pass", parents=["self"])).text == "DAG_ACCEPTED"
    assert {peer.status(f"DAG-{name}") for name in ("a", "b", "c", "self")} == {"NULL"}


def test_ids_are_looked_up_exactly(peer: Peer) -> None:
    peer.submit(script("exact", "print('out')"))
    assert peer.until("DAG-exact") == "COMPLETED"
    assert (peer.status("exact"), peer.status("DAG-exact ")) == ("NULL", "NULL")
    assert peer.log("exact") == ""


def test_submit_job_takes_anything(peer: Peer) -> None:
    assert {peer.ask(0x03, text).text for text in ("", "no job at all", "a|b|c")} == {"JOB_ACCEPTED"}


def test_a_plain_id_gets_no_prefix_and_a_lone_number_is_a_delay(peer: Peer) -> None:
    peer.ask(0x03, "plain|RUN_PAYLOAD|p.py|a  b|cHJpbnQoMSk=|GENERAL|300")
    assert peer.status("plain") == "PENDING"
    assert peer.until("plain") == "COMPLETED"
    assert peer.status("DAG-plain") == "NULL"


def test_every_extension_is_unknown_and_one_connection_serves_one_request(peer: Peer) -> None:
    assert peer.ask(0x40, '{"v":1}').text == "UNKNOWN_OPCODE: 64"
    assert [peer.ask(op).text for op in (0x41, 0x49, 0xF0)] == [
        "UNKNOWN_OPCODE: 65",
        "UNKNOWN_OPCODE: 73",
        "UNKNOWN_OPCODE: -16",
    ]
    with peer.connect() as sock:
        head = b"\x01\x61\0\0\0\0\0\x01"
        sock.sendall(head + b"x" + head + b"y")
        received = b""
        while chunk := sock.recv(100):
            received += chunk
    assert received == b"\x01\x50\0\0\0\0\0\x04NULL"


def test_children_of_a_dead_parent_stay_pending_for_ever(peer: Peer) -> None:
    peer.submit(
        script("root", "raise SystemExit(1)"),
        script("child", "pass", parents=["root"]),
        script("grandchild", "pass", parents=["child"]),
    )
    assert peer.until("DAG-root") == "DEAD"
    peer.submit(script("late", "pass", parents=["root"]), script("other", "pass"))
    assert peer.until("DAG-other") == "COMPLETED"
    assert [peer.status(f"DAG-{name}") for name in ("child", "grandchild", "late")] == ["PENDING"] * 3


def test_a_completion_counts_only_for_children_that_are_registered(peer: Peer) -> None:
    peer.submit(script("before", "pass", name="b.py"))
    assert peer.until("DAG-before") == "COMPLETED"
    peer.submit(
        script("after", "pass", parents=["before"], name="a.py"),
        script("twice", "pass", parents=["other", "other"], name="t.py"),
        script("other", "pass", name="o.py"),
    )
    assert peer.until("DAG-other") == "COMPLETED"
    assert (peer.status("DAG-after"), peer.status("DAG-twice")) == ("PENDING", "PENDING")
    peer.submit(script("before", "pass", name="b.py"))
    assert peer.until("DAG-after") == "COMPLETED"


def test_lines_are_registered_one_by_one() -> None:
    settings = StrictSettings(register_pause=1.0)
    lines = [script("parent", "pass", name="p.py"), script("child", "pass", parents=["parent"], name="c.py")]
    with LocalCluster({"GENERAL": 1}, strict_titan=settings) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(*lines)  # the parent has ended before its child is known
        assert peer.until("DAG-parent") == "COMPLETED"
        assert peer.status("DAG-child") == "PENDING"
        peer.submit(script("kid", "pass", parents=["mum"], name="k.py"), script("mum", "pass", name="m.py"))
        assert peer.until("DAG-kid") == "COMPLETED"


def test_the_youngest_of_many_equals_comes_next(meeting: Meeting) -> None:
    # Each registration of a worker costs those that wait for it an attempt, and this machine may be slow.
    with LocalCluster({"GENERAL": 1}, strict_titan=replace(QUICK, reregister=600.0)) as cluster:
        peer = Peer((cluster.host, cluster.port))
        for number in range(4):
            peer.submit(script(f"hold{number}", meeting.code("h"), name=f"h{number}.py"))
        holds = [meeting.arrival() for _ in range(4)]
        assert len(holds) == 4
        peer.submit(*(script(f"j{n}", meeting.code(str(n)), name=f"j{n}.py") for n in range(6)))
        order = []
        for _, connection in holds[:1]:
            connection.close()
        for _ in range(6):
            word, connection = meeting.arrival()
            order.append(word)
            connection.close()
    assert sorted(order) == list("012345")
    assert order != sorted(order)


def test_a_job_nobody_can_run_delays_everybody(meeting: Meeting) -> None:
    with LocalCluster({"GENERAL": 1}, strict_titan=StrictSettings(no_worker_pause=60.0)) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(script("typo", "pass", tag="general"))
        peer.submit(script("fine", "pass"))
        assert peer.cancel("DAG-typo") == "NOT_FOUND"
        assert (peer.status("DAG-typo"), peer.status("DAG-fine")) == ("CANCELLED", "PENDING")


def test_control_needs_a_strict_cluster() -> None:
    with LocalCluster() as cluster, pytest.raises(TitanError, match="strict_titan=True"):
        _ = cluster.strict
    with (
        LocalCluster(strict_titan=True) as cluster,
        pytest.raises(InvalidArgument, match="no worker has the port"),
    ):
        cluster.strict.lose_worker(1)
    with pytest.raises(InvalidArgument, match="cannot be negative"):
        StrictSettings(heartbeat=-1)
