"""Hazards 3, 4, 5, 7, 15, 17, 20, 21, 22, 25: what runs, how it ends, and what can be known of it."""

from __future__ import annotations

import pytest

from tests.sdk.cluster.peer import Peer
from titan_sdk import DagFailed, InvalidDag, InvalidJob, JobFailed, JobStatus, NotFound
from titan_sdk.strict import StrictSettings

# Slow: The pauses of a real master are what is tested.
pytestmark = pytest.mark.slow

SLEEP = "import time; time.sleep(600)"


@pytest.mark.needs("hazards")
def test_3_ids_work_without_their_prefix(client, peer, job):
    handle = client.submit_job(job("print('out')"))
    handle.wait(timeout=300)
    assert peer.status(handle.job_id) == "NULL"  # the hazard
    assert client.get_job_status(handle.job_id) is JobStatus.COMPLETED
    assert client.fetch_logs(handle.job_id) == "out\n"
    assert client.job_report(handle.job_id).exit_code == 0


def test_3_a_cancel_of_an_unknown_id_creates_nothing(client, job):
    unknown = job().job_id
    with pytest.raises(NotFound, match="does not know the job"):
        client.cancel_job(unknown)
    assert client.get_job_status(unknown) is JobStatus.UNKNOWN


def test_4_a_wait_ends_when_the_job_is_dead(client, job):
    with pytest.raises(JobFailed, match="exit code 3"):
        client.submit_job(job("raise SystemExit(3)")).wait(timeout=300)


@pytest.mark.needs("hazards")
def test_5_children_of_a_failed_job_do_not_hang_the_wait(client, peer, job):
    root = job("raise SystemExit(1)", name="root")
    child = job(name="child", parents=[root.job_id])
    grandchild = job(name="grandchild", parents=[child.job_id])
    dag = client.submit_dag("broken", [root, child, grandchild])
    with pytest.raises(DagFailed) as failure:
        dag.wait(timeout=300)
    assert peer.status(child.full_id) == peer.status(grandchild.full_id) == "PENDING"  # the hazard
    assert failure.value.dag_report[grandchild.job_id].upstream_failed == (root.job_id,)


def test_7_jobs_with_one_base_name_run_their_own_code(client, job):
    jobs = [job(f"import titan_job; titan_job.result({n})", name=f"n{n}") for n in range(8)]
    dag = client.submit_dag("same-name", jobs)
    dag.wait(timeout=300)
    assert [dag.result(j.job_id) for j in jobs] == list(range(8))


def test_7_a_script_called_like_a_module_shadows_it_for_nobody(client, job):
    client.submit_job(job("print('mine')", file="json.py")).wait(timeout=300)
    other = job("import json, titan_job; titan_job.result(json.loads('[1]'))")
    assert client.submit_job(other).wait(timeout=300).result == [1]


@pytest.mark.parametrize(("attempts", "runs"), [(None, 1), (2, 2)])
def test_15_a_failing_script_runs_max_attempts_times(client, job, tmp_path, attempts, runs):
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'a').write('x'); raise SystemExit(1)"
    handle = client.submit_job(job(code, max_attempts=attempts))
    report = handle.wait(timeout=300, raise_on_failure=False)
    # The master starts it four times; the runtime lets only these through.
    assert (report.state, report.attempts, trace.read_text()) == (JobStatus.DEAD, runs, "x" * runs)


def test_15_without_the_runtime_it_runs_four_times_as_documented(client, job, tmp_path):
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'a').write('x'); raise SystemExit(1)"
    client.submit_job(job(code, runtime=False)).wait(timeout=300, raise_on_failure=False)
    assert trace.read_text() == "xxxx"


@pytest.mark.needs("hazards")
def test_17_every_line_arrives_once_and_in_order(client, peer, job):
    handle = client.submit_job(job("for i in range(5000): print(i)"))
    assert list(handle.follow_logs()) == list(map(str, range(5000)))
    handle.wait(timeout=300)
    assert handle.logs().split() == list(map(str, range(5000)))
    assert len(peer.log(handle.full_id).splitlines()) <= 100  # the hazard


def test_17_a_carriage_return_ends_no_line(client, job):
    handle = client.submit_job(job(r"import sys; sys.stdout.write('1%\r2%\r\n3%\n\n\n')"))
    handle.wait(timeout=300)
    assert handle.logs() == "1%\r2%\r\n3%\n\n\n"


@pytest.mark.needs("hazards")
def test_20_a_job_given_up_unstarted_is_told_from_one_that_failed(client, peer, job, eventually):
    ghost = "9||GHOST||false"
    assert peer.ask(0x02, ghost).text == "REGISTERED"  # a worker that is not there
    handle = client.submit_job(job(requirement="GHOST"))
    # A heartbeat drops such a worker; it must come back for the job to be tried four times.
    eventually(lambda: peer.ask(0x02, ghost).ok and peer.status(handle.full_id) == "DEAD")
    report = handle.wait(timeout=300, raise_on_failure=False, max_resubmits=0)
    assert (report.state, report.never_started, report.attempts) == (JobStatus.DEAD, True, 0)
    failed = client.submit_job(job("raise SystemExit(1)"))
    assert not failed.wait(timeout=300, raise_on_failure=False).never_started


# No heartbeat drops the worker that is not there before it has failed four times.
@pytest.mark.parametrize(
    "settings", [StrictSettings(first_heartbeat=600, no_worker_pause=0.2, saturated_pause=0.1)]
)
@pytest.mark.needs("master_control")
def test_20_such_a_job_is_submitted_again_under_a_new_id(own_client, own, job, tmp_path):
    own_peer = Peer((own.host, own.port))
    own_peer.ask(0x02, "9||LATE||false")
    trace = tmp_path / "trace"
    given = job(f"open({str(trace)!r}, 'a').write('x')", requirement="LATE")
    handle = own_client.submit_job(given)
    own_peer.until(given.full_id, "DEAD")
    own_peer.ask(0x02, "8080||LATE||true")  # a worker that can
    report = handle.wait(timeout=300)
    assert (report.state, report.resubmitted_from) == (JobStatus.COMPLETED, given.job_id)
    assert trace.read_text() == "x"


def test_21_a_service_needs_a_port(job):
    with pytest.raises(InvalidJob, match="port 0 is not a port"):
        job(job_type="SERVICE")


def test_22_a_cancelled_job_does_not_run_when_its_delay_is_over(client, peer, job, tmp_path, eventually):
    trace = tmp_path / "trace"
    note = f"open({str(trace)!r}, 'a').write('x')"
    delayed = client.submit_job(job(note, delay=10_000, name="delayed"))
    parent = job(name="parent")
    child = job(note, delay=10_000, parents=[parent.job_id], name="child")
    dag = client.submit_dag("delayed", [parent, child])
    dag.jobs[0].wait(timeout=300)
    assert delayed.cancel() is JobStatus.CANCELLED  # a real master's own words are NOT_FOUND
    assert dag.cancel() == {parent.job_id: JobStatus.COMPLETED, child.job_id: JobStatus.CANCELLED}
    client.submit_job(job(delay=10_500, name="later")).wait(timeout=300)
    handles = [delayed, dag.jobs[1]]
    # A real master has started both meanwhile, and called them RUNNING.
    eventually(lambda: {peer.status(handle.full_id) for handle in handles} == {"CANCELLED"})
    assert [handle.wait(5, raise_on_failure=False).state for handle in handles] == [JobStatus.CANCELLED] * 2
    assert not trace.exists()


@pytest.mark.needs("hazards")
def test_22_of_a_delayed_job_without_the_runtime_the_answer_says_that_it_runs(client, job, tmp_path):
    trace = tmp_path / "trace"
    plain = job(f"open({str(trace)!r}, 'a').write('x')", delay=1500, runtime=False, file="plain22.py")
    handle = client.submit_job(plain)
    assert handle.cancel() is handle.status() is JobStatus.PENDING
    assert handle.wait(timeout=300).state is JobStatus.COMPLETED
    assert trace.read_text() == "x"


def test_22_the_state_is_read_again_after_a_cancel(client, peer, job):
    done = client.submit_job(job(name="done"))
    done.wait(timeout=300)
    assert done.cancel() is JobStatus.COMPLETED  # nothing is sent that would overwrite it
    assert peer.status(done.full_id) == "COMPLETED"


def test_22_a_cancel_leaves_no_process_behind(client, job, meeting):
    child = meeting.code("child")
    code = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        + meeting.code("job")
    )
    handle = client.submit_job(job(code))
    words = dict(meeting.arrival() for _ in range(2))
    assert handle.cancel() is JobStatus.CANCELLED
    assert words["job"].recv(1) == words["child"].recv(1) == b""


def test_22_a_cancelled_id_is_not_used_again(client, job):
    cancelled = job(delay=600_000)
    client.submit_job(cancelled).cancel()
    with pytest.raises(InvalidDag, match="was cancelled on this master"):
        client.submit_job(cancelled)


def test_25_an_old_decision_opens_no_gate_and_a_gate_times_out_once(client, job, eventually):
    gated = job(hitl_message="Go on?", max_wait_seconds=1, name="gated")
    gate = f"hitl-gate-{gated.job_id}"
    client.store_put(f"titan:hitl:status:{gate}", "APPROVED")  # left by somebody's earlier submission
    behind = job(name="behind", parents=[gated.job_id])
    with pytest.raises(DagFailed) as failure:
        client.submit_dag("gated", [gated, behind]).wait(timeout=300)
    reports = failure.value.dag_report.jobs
    assert [report.state.is_success for report in reports] == [True, False, False]
    assert reports[1].attempts == 1
    assert reports[2].upstream_failed
