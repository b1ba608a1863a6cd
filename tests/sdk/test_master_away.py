"""Waits and logs outlast a master that is killed and started again, on both clients."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting
from tests.support.blocking_async import BlockingAsyncClient
from tests.support.flaky_proxy import FlakyProxy
from titan_sdk import ClientConfig, ConnectionLost, JobStatus, TitanClient, TitanJob
from titan_sdk.config import RetryPolicy

# Slow: Masters are killed under waiting clients.
pytestmark = pytest.mark.slow


@pytest.fixture
def meeting():
    made = Meeting()
    yield made
    made.close()


@pytest.fixture
def master(tmp_path):
    made = MasterProcess(tmp_path / "data")
    yield made
    made.close()


def until_refused(proxy, count):
    deadline, pause = time.monotonic() + 60, threading.Event()
    while proxy.refused < count:
        assert time.monotonic() < deadline, f"{proxy.refused} connections were refused"
        pause.wait(0.02)


@pytest.mark.parametrize("connect", [TitanClient, BlockingAsyncClient], ids=["sync", "async"])
@pytest.mark.parametrize("what", ["wait", "follow"])
def test_a_master_killed_and_started_again_goes_unnoticed(tmp_path, master, meeting, connect, what):
    script = tmp_path / "job.py"
    script.write_text("print('before', flush=True)\n" + meeting.code("job") + "print('after')")
    address = master.start().address
    with FlakyProxy(*address) as proxy, FlakyProxy(*address) as for_workers:
        config = ClientConfig("127.0.0.1", proxy.port, worker_address=("127.0.0.1", for_workers.port))
        with connect(config=config) as client, ThreadPoolExecutor(1) as thread:
            handle = client.submit_job(TitanJob(f"away-{uuid.uuid4().hex[:8]}", str(script)))
            meeting.arrival()
            waiting = thread.submit(handle.wait if what == "wait" else lambda: list(handle.follow_logs()))
            master.kill()
            until_refused(proxy, 7)  # more often than any single request is repeated
            assert not waiting.done()
            proxy.target = for_workers.target = master.start().address
            meeting.let_go()
            found = waiting.result(timeout=300)
            assert found == ["before", "after"] if what == "follow" else found.state is JobStatus.COMPLETED


@pytest.mark.parametrize("connect", [TitanClient, BlockingAsyncClient], ids=["sync", "async"])
def test_a_member_whose_reply_was_lost_is_not_said_to_be_old(master, connect):
    """Added by a second try, it would read 0, as if somebody else had come first."""
    with (
        FlakyProxy(*master.start().address, every=2, keep=5) as proxy,
        connect(
            config=ClientConfig("127.0.0.1", proxy.port, keep_alive=False, retry=RetryPolicy(attempts=1))
        ) as client,
    ):
        assert client.server_info().kind == "bundled"
        with pytest.raises(ConnectionLost, match="may have taken effect"):
            client.store_sadd("claims", "mine")
        assert proxy.broken == 1
        assert client.store_smembers("claims") == ["mine"]
