"""Every request of protocol section 2, over real sockets, in the exact words that existing clients compare."""

from __future__ import annotations

import json
import time

import pytest

from tests.sdk.cluster.peer import Meeting, Peer, b64, script


def test_an_unknown_opcode_is_named_as_a_signed_number(peer: Peer) -> None:
    reply = peer.ask(0xF0, "x")
    assert (reply.opcode, reply.text) == (0x51, "UNKNOWN_OPCODE: -16")
    assert peer.ask(0x01).text == "UNKNOWN_OPCODE: 1"


@pytest.mark.parametrize("opcode", [0x02, 0x12, 0x15, 0x17])
def test_what_only_workers_send_is_refused(peer: Peer, opcode: int) -> None:
    reply = peer.ask(opcode, "8080||GENERAL||false")
    assert reply.opcode == 0x51
    assert "is for workers of a distributed Titan" in reply.text


def test_hello_says_who_this_is(peer: Peer) -> None:
    hello = json.loads(peer.ask(0x40, '{"v":1}').text)
    assert hello["server"] == "titan-sdk-bundled"
    assert {"strict_submit", "exact_text", "sadd_reply", "ordered_logs"} <= set(hello["features"])


# ---------------------------------------------------------------------- jobs


def test_a_job_runs_and_its_log_is_whole_and_ordered(peer: Peer) -> None:
    assert peer.submit(script("long", "for n in range(20000): print(n)")).text == "DAG_ACCEPTED"
    assert peer.until("DAG-long") == "COMPLETED"
    assert peer.log("DAG-long") == "".join(f"{n}\n" for n in range(20000))


def test_ids_resolve_with_and_without_their_prefix(peer: Peer) -> None:
    peer.submit(script("short", "print('x')"), script("DAG-long-form", "print('y')"))
    assert peer.until("short") == peer.until("DAG-short") == "COMPLETED"
    assert peer.until("long-form") == "COMPLETED"
    assert peer.log("short") == peer.log("DAG-short") == "x\n"


def test_an_unknown_id_is_null_has_an_empty_log_and_cannot_be_cancelled(peer: Peer) -> None:
    assert peer.status("ghost") == "NULL"
    assert peer.log("ghost") == ""
    assert peer.cancel("ghost") == "NOT_FOUND"
    assert peer.status("ghost") == "NULL"
    assert peer.log("../master") == ""


def test_a_dag_runs_in_order_and_hands_files_over_in_the_shared_folder(peer: Peer) -> None:
    peer.submit(
        script("read", "print(open('handed').read())", tag="GPU", parents=["write"]),
        script("write", "open('handed', 'w').write('over')", tag="GPU"),
    )
    assert peer.until("read") == "COMPLETED"
    assert peer.log("read") == "over\n"


def test_jobs_of_one_file_name_do_not_disturb_each_other(peer: Peer) -> None:
    peer.submit(*(script(f"same{n}", f"print({n})", name="main.py") for n in range(20)))
    for n in range(20):
        assert peer.until(f"same{n}") == "COMPLETED"
        assert peer.log(f"same{n}") == f"{n}\n"


def test_a_failing_job_runs_four_times_then_its_children_are_dead(peer: Peer) -> None:
    peer.submit(script("bad", "print('try'); raise SystemExit(1)"), script("after", "pass", parents=["bad"]))
    assert peer.until("after") == "DEAD"
    assert peer.status("bad") == "DEAD"
    assert peer.log("bad") == "try\n" * 4
    assert peer.log("after") == "[titan] DAG-after never ran: its parent DAG-bad ended DEAD\n"


def test_a_bad_dag_is_refused_as_a_whole(peer: Peer) -> None:
    reply = peer.submit(script("fine", "pass"), script("lost", "pass", parents=["nobody"]))
    assert reply.opcode == 0x51
    assert reply.text.startswith("ERROR: line 2 (job 'DAG-lost'): the parent 'DAG-nobody'")
    assert peer.status("fine") == "NULL"


def test_an_id_in_use_is_refused_and_a_finished_one_runs_afresh(peer: Peer, meeting: Meeting) -> None:
    peer.submit(script("again", meeting.code("up")))
    meeting.arrival()
    reply = peer.submit(script("again", "print('second')"))
    assert reply.text.startswith("ERROR: the job 'DAG-again' is still RUNNING; wait for it or cancel it")
    meeting.let_go()
    peer.until("again")
    assert peer.submit(script("again", "print('second')")).text == "DAG_ACCEPTED"
    peer.until("again", "COMPLETED")
    assert peer.log("again") == "second\n"


def test_a_delay_is_counted_in_milliseconds_from_submission(peer: Peer) -> None:
    before = time.time()
    peer.submit(script("later", "import time; print(time.time())", delay=3000))
    assert peer.status("later") == "PENDING"
    peer.until("later")
    assert 3.0 <= float(peer.log("later")) - before < 60


def test_a_job_that_nobody_can_run_delays_nobody(peer: Peer) -> None:
    peer.submit(script("stuck", "pass", tag="gpu", priority=1000))
    peer.submit(script("free", "pass"))
    assert peer.until("free") == "COMPLETED"
    assert peer.status("stuck") == "PENDING"
    assert json.loads(peer.ask(0x09).text)["queues"] == {"gpu": 1}
    assert peer.cancel("stuck") == "CANCELLED"


def test_affinity_goes_where_the_parent_was(peer: Peer, meeting: Meeting) -> None:
    code = "import os; print(os.environ['TITAN_WORKER'])"
    peer.submit(script("hold", meeting.code("hold")))
    meeting.arrival()
    peer.submit(script("first", code), script("second", code, parents=["first"], affinity=True))
    peer.until("second")
    meeting.let_go()
    peer.until("hold")
    assert peer.log("first") == peer.log("second") == "GENERAL-2\n"


def test_cancel_of_a_running_job_is_stored_when_it_is_answered(peer: Peer, meeting: Meeting) -> None:
    peer.submit(script("victim", meeting.code("up")), script("orphan", "pass", parents=["victim"]))
    _, connection = meeting.arrival()
    assert peer.cancel("victim") == "CANCELLED"
    assert connection.recv(1) == b""
    assert peer.status("victim") == "CANCELLED"
    assert peer.status("orphan") == "DEAD"
    assert peer.cancel("victim") == "NOT_FOUND"
    assert peer.status("victim") == "CANCELLED"
    deadline = time.monotonic() + 60
    while (reply := peer.submit(script("victim", "pass")).text) != "DAG_ACCEPTED":
        assert "is being cancelled" in reply
        assert time.monotonic() < deadline
    assert peer.until("victim") == "COMPLETED"


@pytest.mark.parametrize("state", ["queued", "delayed", "waiting"])
def test_cancel_of_a_job_that_does_not_run(peer: Peer, meeting: Meeting, state: str) -> None:
    peer.submit(script("busy", meeting.code("up"), tag="GPU"))
    meeting.arrival()
    more = {"queued": {}, "delayed": {"delay": 60_000}, "waiting": {"parents": ["busy"]}}[state]
    peer.submit(script("idle", "pass", tag="GPU", **more))  # type: ignore[arg-type]
    assert peer.status("idle") == "PENDING"
    assert peer.cancel("DAG-idle") == "CANCELLED"
    assert peer.status("idle") == "CANCELLED"
    meeting.let_go()
    assert peer.until("busy") == "COMPLETED"


def test_submit_job_uses_the_id_as_it_is(peer: Peer) -> None:
    assert peer.ask(0x03, f"TSK-x|RUN_PAYLOAD|a.py||{b64('print(1)')}|GENERAL|1|0").text == "JOB_ACCEPTED"
    assert peer.until("TSK-x") == "COMPLETED"
    assert peer.status("DAG-TSK-x") == "NULL"
    assert peer.ask(0x03, "").text.startswith("ERROR: this is not a job")


# ---------------------------------------------------------------------- values, files, the rest


@pytest.mark.parametrize("value", ["", "a|b\nc", "héllo 日本", "NULL", " x "])
def test_a_value_comes_back_exactly(peer: Peer, value: str) -> None:
    assert peer.ask(0x60, f"key|{value}").text == "OK"
    assert peer.ask(0x61, "key").text == value


def test_a_value_that_looks_like_an_error_keeps_its_text(peer: Peer) -> None:
    peer.ask(0x60, "odd|ERROR: not really")
    reply = peer.ask(0x61, "odd")
    assert (reply.opcode, reply.text) == (0x51, "ERROR: not really")


def test_absent_and_malformed(peer: Peer) -> None:
    assert peer.ask(0x61, "absent").text == "NULL"
    assert peer.ask(0x63, "absent").text == ""
    assert peer.ask(0x60, "no pipe").text == "ERROR: Invalid Format"
    assert peer.ask(0x62, "no pipe").text == "ERROR: Invalid Format"


def test_sadd_says_whether_the_member_is_new(peer: Peer) -> None:
    assert [peer.ask(0x62, f"set|{member}").text for member in ("b", "a", "b")] == ["1", "1", "0"]
    assert peer.ask(0x63, "set").text == "b,a"


def test_an_artifact_comes_back(peer: Peer) -> None:
    assert peer.ask(0x53, f"file one.bin|{b64(bytes(range(256)))}").text == "UPLOAD_SUCCESS"
    assert peer.ask(0x54, "file one.bin").text == b64(bytes(range(256)))
    assert peer.ask(0x53, "empty|").text == "UPLOAD_SUCCESS"
    assert peer.ask(0x54, "empty").text == ""


def test_artifacts_that_cannot_be(peer: Peer) -> None:
    assert peer.ask(0x54, "absent").text == "ERROR_NOT_FOUND"
    assert peer.ask(0x54, "../master.sqlite3").text == "ERROR_NOT_FOUND"
    assert peer.ask(0x53, "no pipe").text == "ERROR: Invalid Upload Payload"
    assert peer.ask(0x53, f"../x|{b64('')}").text == "ERROR: Invalid asset name (path traversal rejected)"
    assert peer.ask(0x53, "x|%%%").text.startswith("UPLOAD_FAILED: expected base64")
    assert peer.ask(0x57, f"../x|{b64('')}").text == "ERROR: Invalid script name (path traversal rejected)"
    assert peer.ask(0x57, "no pipe").text == "ERROR: Invalid Deploy Payload"


def test_a_deployed_script_runs_by_name(peer: Peer) -> None:
    assert peer.ask(0x57, f"known.py|{b64('print(42)')}").text == "DEPLOY_SUCCESS"
    reply = peer.ask(0x06, "known.py|GENERAL").text
    assert reply.startswith("JOB_QUEUEDTSK-")
    job_id = reply.removeprefix("JOB_QUEUED").removesuffix(" on GENERAL")
    assert peer.until(job_id) == "COMPLETED"
    assert peer.log(job_id) == "42\n"
    assert peer.ask(0x06, "").text == "ERROR: Missing filename"
    assert peer.ask(0x06, "absent.py|").text == "ERROR: File not found recursively in perm_files"
    assert peer.ask(0x05, "absent.py|1|").text == "ERROR: File not found in perm_files"


def test_statistics_have_the_real_masters_keys(peer: Peer, meeting: Meeting) -> None:
    peer.submit(script('odd"\\id', meeting.code("up"), tag="GPU"))
    meeting.arrival()
    stats = json.loads(peer.ask(0x09).text)
    gpu = next(worker for worker in stats["workers"] if worker["name"] == "GPU-1")
    assert (gpu["capabilities"], gpu["load"], gpu["active_job"]) == ("[GPU]", "1/1", 'DAG-odd"\\id')
    entry = gpu["history"][0]
    assert (entry["id"], entry["status"]) == ('DAG-odd"\\id', "RUNNING")
    assert "completed_at" not in entry
    assert stats["active_workers"] == 3
    assert "Active Workers:    3" in peer.ask(0x08).text
    meeting.let_go()
    peer.until('odd"\\id')
    assert peer.ask(0x0B).text.startswith("Stats Map Cleared")
    assert all(worker["history"] == [] for worker in json.loads(peer.ask(0x09).text)["workers"])
