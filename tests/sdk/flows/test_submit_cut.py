"""The connection breaks at every byte of a submit: nothing runs twice, and nothing is lost without a word."""

from __future__ import annotations

import pytest

from tests.support.blocking_async import BlockingAsyncClient
from tests.support.cutting_master import CuttingMaster
from titan_sdk import ClientConfig, JobStatus, SubmissionUnconfirmed, TitanClient, TitanJob
from titan_sdk.flows import submit
from titan_sdk.wire.calls import submit_dag
from titan_sdk.wire.frames import encode_frame
from titan_sdk.wire.jobs import JobLine
from titan_sdk.wire.opcodes import Opcode

# Slow: Every byte of a submit is cut once.
pytestmark = pytest.mark.slow

LINE = JobLine("a", "RUN_PAYLOAD", ("j.py", "", "cGFzcw==", "GENERAL"), 1, 0, ())
REQUEST = len(encode_frame(Opcode.SUBMIT_DAG, submit_dag([LINE]).encoded()))
REPLY = len(encode_frame(Opcode.ACK, b"DAG_ACCEPTED"))


@pytest.fixture(params=[TitanClient, BlockingAsyncClient], ids=["sync", "async"])
def connect(request):
    return lambda port: request.param(config=ClientConfig("127.0.0.1", port, timeout=5))


@pytest.fixture
def job(tmp_path, monkeypatch):
    # The questions are asked as often as ever, only without the pauses between them.
    monkeypatch.setattr(submit, "_CONFIRM_PAUSES", (0.0,) * len(submit._CONFIRM_PAUSES))
    path = tmp_path / "j.py"
    path.write_text("pass")
    return TitanJob("a", str(path), runtime=False)


@pytest.fixture(params=[False, True], ids=["closed", "reset"])
def reset(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["one request", "kept connection"])
def keep_alive(request):
    return request.param


def outcome(connect, job, **behaviour):
    """Whether the submit said yes, and how often the master took the DAG."""
    keep_alive = behaviour.pop("keep_alive")
    with CuttingMaster(keep_alive=keep_alive) as master, connect(master.port) as client:
        for name, value in behaviour.items():
            setattr(master, name, value)
        try:
            handle = client.submit_job(job)
        except SubmissionUnconfirmed as error:
            assert error.outcome_unknown
            assert error.job_ids == ("DAG-a",)
            assert "Ask get_job_status() before submitting again" in str(error)
            found = client.get_job_status("a")
            assert (found is not JobStatus.UNKNOWN) == (master.taken == 1)
            return False, master.taken
        assert handle.status() is JobStatus.PENDING
        return True, master.taken


def test_cut_within_the_request(connect, job, reset, keep_alive):
    for count in range(REQUEST):
        assert outcome(connect, job, cut_request=count, reset=reset, keep_alive=keep_alive) == (False, 0), (
            count
        )


def test_cut_within_the_reply_after_the_work_was_done(connect, job, reset, keep_alive):
    for count in range(REPLY):
        assert outcome(connect, job, cut_reply=count, reset=reset, keep_alive=keep_alive) == (True, 1), count


def test_cut_within_the_reply_with_nothing_done(connect, job, reset, keep_alive):
    """A master that crashed between the two; an acceptance that arrived whole is not believed either."""
    for count in range(REPLY):
        ended = outcome(connect, job, cut_reply=count, process=False, reset=reset, keep_alive=keep_alive)
        assert ended == (False, 0), count


def test_not_cut_at_all(connect, job, keep_alive):
    assert outcome(connect, job, keep_alive=keep_alive) == (True, 1)


def test_an_acceptance_of_nothing_is_not_believed(connect, job):
    with CuttingMaster() as master, connect(master.port) as client:
        master.process = False
        with pytest.raises(SubmissionUnconfirmed, match="answered DAG_ACCEPTED but shows no trace of 'a'"):
            client.submit_job(job)
        assert master.taken == 0
