"""Hazards 1, 2, 6, 8, 9, 14, 16, 18, 23: what is sent, and what the master makes of it."""

from __future__ import annotations

import socket

import pytest

from tests.sdk.cluster.peer import script
from titan_sdk import (
    InvalidDag,
    InvalidJob,
    JobStatus,
    NotFound,
    PayloadTooLarge,
    StoreUnavailable,
    WaitTimedOut,
)

# Slow: The pauses of a real master are what is tested.
pytestmark = pytest.mark.slow

ECHO = "import sys, titan_job; titan_job.result(sys.argv[1:])"


@pytest.mark.needs("hazards")
def test_1_a_cyclic_dag_is_refused_before_sending(client, peer, job):
    first, second = job(name="a"), job(name="b")
    lines = (
        script(first.job_id, "pass", parents=[second.job_id]),
        script(second.job_id, "pass", parents=[first.job_id]),
    )
    assert peer.submit(*lines).text == "DAG_ACCEPTED"  # the hazard: a cycle is accepted, and dropped
    assert peer.status(first.full_id) == "NULL"
    cyclic = [job(parents=[second.job_id], name="x"), second]
    object.__setattr__(second, "parents", (cyclic[0].job_id,))
    with pytest.raises(InvalidDag, match="has a cycle"):
        client.submit_dag("cyclic", cyclic)
    assert client.get_job_status(second.job_id) is JobStatus.UNKNOWN


@pytest.mark.needs("master_control")
def test_1_nothing_is_submitted_that_the_store_cannot_remember(own, own_client, job, tmp_path):
    given = job(f"open({str(tmp_path / 'trace')!r}, 'a').write('x')")
    own.strict.stop_store()
    with pytest.raises(StoreUnavailable, match="nothing was submitted"):
        own_client.submit_job(given)
    own.strict.start_store()
    with pytest.raises(NotFound):
        own_client.cancel_job(given.job_id)
    assert own_client.submit_job(given).wait(timeout=300).attempts == 1
    assert (tmp_path / "trace").read_text() == "x"


def test_2_delimiters_arrive_exactly_or_are_refused(client, job):
    nasty = ["a;b", "c|d", "[e]", "f,g", " h ", "", "line\nline", "é"]
    assert client.submit_job(job(ECHO, args=nasty)).wait(timeout=300).result == nasty
    for args in ("a;b", "a|b"):
        with pytest.raises(InvalidJob, match="would corrupt the job line"):
            job(ECHO, args=args, runtime=False)
    with pytest.raises(InvalidJob, match="use letters, digits"):
        job(name="a;b")


def test_2_a_file_name_may_hold_delimiters(client, job):
    strange = job("import os, titan_job; titan_job.result(os.path.basename(__file__))", file="a;b|c [d].py")
    assert client.submit_job(strange).wait(timeout=300).result == "a;b|c [d].py"


def test_6_a_reused_id_mixes_nothing(client, job, tmp_path, meeting):
    first = job("print('one'); import titan_job; titan_job.result(1)")
    client.submit_job(first).wait(timeout=300)
    again = job("print('two'); import titan_job; titan_job.result(2)")
    object.__setattr__(again, "job_id", first.job_id)
    handle = client.submit_job(again)
    assert handle.wait(timeout=300).result == 2
    assert handle.logs() == "two\n"


@pytest.mark.needs("hazards")
@pytest.mark.parametrize("how", ["submits the id", "reports its end"])
def test_6_what_another_client_does_with_the_id_ends_no_wait(client, peer, job, meeting, eventually, how):
    mine = job("import titan_job\n" + meeting.code("up") + "titan_job.result('mine')", name="mine")
    handle = client.submit_job(mine)
    meeting.arrival()
    if how == "submits the id":
        peer.submit(script(mine.job_id, "pass"))
    else:
        peer.ask(0x12, f"{mine.full_id}|COMPLETED|x")
    eventually(lambda: peer.status(mine.full_id) == "COMPLETED")  # the hazard
    assert handle.status() is handle.report().state is JobStatus.RUNNING
    with pytest.raises(WaitTimedOut, match="RUNNING"):
        handle.wait(timeout=2)
    meeting.let_go()
    report = handle.wait(timeout=300)
    assert (report.state, report.result) == (JobStatus.COMPLETED, "mine")
    assert handle.status() is JobStatus.COMPLETED


def test_6_an_id_in_use_is_refused(client, job, meeting, eventually):
    running = job(meeting.code("up"))
    handle = client.submit_job(running)
    meeting.arrival()
    eventually(lambda: handle.status() is JobStatus.RUNNING)  # a Ray cluster tells of it a moment later
    with pytest.raises(InvalidDag, match="is RUNNING on this master from an earlier submission"):
        client.submit_job(running)
    meeting.let_go()
    handle.wait(timeout=300)


def test_8_a_completed_parent_of_another_dag_does_not_block(client, job):
    parent = job(name="parent")
    client.submit_job(parent).wait(timeout=300)
    child = job(name="child", parents=[parent.job_id, parent.full_id])
    assert client.submit_job(child).wait(timeout=300).state is JobStatus.COMPLETED


def test_8_a_parent_that_can_never_count_is_refused(client, job):
    dead = job("raise SystemExit(1)", name="dead")
    client.submit_job(dead).wait(timeout=300, raise_on_failure=False)
    with pytest.raises(InvalidDag, match="DEAD, so the job would never run"):
        client.submit_job(job(parents=[dead.job_id]))
    with pytest.raises(InvalidDag, match="neither in this DAG nor known"):
        client.submit_job(job(parents=["nobody-knows-it"]))


def test_8_duplicate_parents_count_once(client, job):
    parent = job(name="p")
    child = job(name="c", parents=[parent.job_id, parent.job_id, parent.full_id])
    client.submit_dag("twice", [child, parent]).wait(timeout=300)


def test_8_a_parent_that_ends_at_once_does_not_outrun_its_children(client, job):
    # A real master registers line by line, so children are sent first.
    parent = job(name="fast")
    children = [job(name=f"c{n}", parents=[parent.job_id]) for n in range(15)]
    client.submit_dag("wide", [parent, *children]).wait(timeout=300)


@pytest.mark.parametrize("tag", ["x" * 20, "123", "-5", "[x]", "AFFINITY", "abc=", " GPU"])
def test_9_a_requirement_that_would_be_read_as_something_else_is_refused(job, tag):
    with pytest.raises(InvalidJob, match="requirement"):
        job(requirement=tag)


def test_9_a_job_no_worker_can_run_can_be_told_and_taken_back(client, job):
    assert not client.cluster_stats().has_worker_for("gpu")
    typo = job(requirement="gpu")
    try:
        handle = client.submit_job(typo)
    except InvalidJob as refused:
        assert "gpu" in str(refused)
        return
    with pytest.raises(WaitTimedOut, match="PENDING"):
        handle.wait(timeout=0.5)
    assert handle.cancel() is JobStatus.CANCELLED
    client.submit_job(job()).wait(timeout=300)


def test_14_arguments_are_not_split_or_are_refused(client, job, tmp_path):
    args = ["two words", '"quoted"', "tab\there", ""]
    assert client.submit_job(job(ECHO, args=args)).wait(timeout=300).result == args
    with pytest.raises(InvalidJob, match="splits or drops"):
        job(ECHO, args=args, runtime=False)
    with pytest.raises(InvalidJob, match="without arguments"):
        job(ECHO, job_type="SERVICE", port=8000, args="x")


def test_16_a_single_job_goes_as_a_dag(client, job):
    handle = client.submit_job(job("import os, titan_job; titan_job.result(os.getcwd())"))
    # Only ids with DAG- have the limit of a day; the shared folder shows that the worker sees it so.
    assert handle.wait(timeout=300).result.endswith("/shared")


def test_18_an_oversized_submission_is_refused_with_both_sizes(client, job):
    big = [job("#" + "é" * 900_000, name=f"b{n}", runtime=False, file=f"b{n}.py") for n in range(5)]
    with pytest.raises(PayloadTooLarge, match="10,485,760"):
        client.submit_dag("big", big)
    assert client.get_job_status(big[0].job_id) is JobStatus.UNKNOWN


def test_18_output_over_the_packet_limit_does_not_hang_the_job(client, job):
    handle = client.submit_job(job("for _ in range(110): print('x' * 99_999)"))
    assert handle.wait(timeout=300).state is JobStatus.COMPLETED
    assert len(handle.logs()) == 11_000_000


def test_23_half_a_frame_of_somebody_else_stops_nobody(client, cluster):
    with socket.create_connection((cluster.host, cluster.port)) as half:
        half.sendall(b"\x01\x60\0\0\0\0\x10\0key|")
        assert client.get_job_status("whatever") is JobStatus.UNKNOWN
