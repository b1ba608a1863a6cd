"""Hazard 19: the master restarts, a worker is lost."""

from __future__ import annotations

import pytest

from titan_sdk import WaitTimedOut


@pytest.mark.needs("master_control")
def test_19_after_a_restart_no_child_runs_before_its_parent(own, own_client, job, meeting, tmp_path):
    trace = tmp_path / "trace"
    note = "open({!r}, 'a').write({!r})\n"
    parent = job(meeting.code("parent") + note.format(str(trace), "p"), name="parent")
    child = job(note.format(str(trace), "c"), name="child", parents=[parent.job_id])
    dag = own_client.submit_dag("restarted", [parent, child])
    meeting.arrival()
    own.strict.restart()
    meeting.let_go()
    dag.wait(timeout=300)
    # The master ran the child without its parent, and the parent twice; the runtime let neither through.
    assert trace.read_text() == "pc"


@pytest.mark.needs("master_control")
def test_19_a_lost_worker_does_not_hang_a_wait_with_a_limit(own, own_client, job, meeting):
    handle = own_client.submit_job(job(meeting.code("up")))
    meeting.arrival()
    own.strict.lose_worker(8080)
    with pytest.raises(WaitTimedOut, match="RUNNING"):
        handle.wait(timeout=1)
