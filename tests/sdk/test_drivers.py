"""The drivers: bytes in any chunking, a retry only where it is safe, errors that say what may have happened."""

from __future__ import annotations

import asyncio
import multiprocessing
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.blocking_async import BlockingAsyncClient
from tests.support.scripted_peer import ScriptedPeer, raw, reply, reply_bytewise, reset_after, truncate
from titan_sdk import (
    AsyncTitanClient,
    ClientConfig,
    ConnectionLost,
    PeerProtocolError,
    RequestRefused,
    TitanClient,
)
from titan_sdk.config import RetryPolicy
from titan_sdk.retry import retry_pause
from titan_sdk.transport import aio, sync
from titan_sdk.wire.opcodes import Opcode


@pytest.fixture(params=["sync", "async"])
def connect(request):
    """Makes a client that asks nothing of its own accord, so that a script sees the test's calls alone."""
    kind = TitanClient if request.param == "sync" else BlockingAsyncClient
    return lambda host, port: kind(config=ClientConfig(host, port, keep_alive=False))


@pytest.fixture
def unique_prefix():
    return f"drivers-{uuid.uuid4().hex[:10]}"


def test_a_reply_may_come_byte_by_byte(connect):
    with ScriptedPeer(reply_bytewise("COMPLETED")) as peer, connect("127.0.0.1", peer.port) as api:
        assert api.get_job_status("x") == "COMPLETED"
    assert peer.requests == [(Opcode.GET_JOB_STATUS, "DAG-x")]


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 12])
def test_a_question_is_asked_again_after_a_broken_reply(connect, keep):
    with (
        ScriptedPeer(truncate("RUNNING", keep), reply("RUNNING")) as peer,
        connect("127.0.0.1", peer.port) as api,
    ):
        assert api.get_job_status("x") == "RUNNING"
    assert len(peer.requests) == 2


def test_what_changes_something_is_never_sent_twice(connect):
    with ScriptedPeer(truncate("STOPPED: DAG-x", 3)) as peer, connect("127.0.0.1", peer.port) as api:
        with pytest.raises(ConnectionLost, match="the request may have taken effect") as error:
            api.stop_service("x")
        assert error.value.outcome_unknown
    assert len(peer.requests) == 1


def test_a_reset_while_sending_is_a_lost_connection(connect):
    acts = [reset_after(4)] * 3
    with ScriptedPeer(*acts) as peer, connect("127.0.0.1", peer.port) as api, pytest.raises(ConnectionLost):
        api.store_put("key", "x" * 1_000_000)


def test_a_foreign_protocol_is_not_retried(connect):
    foreign = ScriptedPeer(raw(b"-ERR unknown command\r\n"))
    refused = pytest.raises(PeerProtocolError, match="a Redis-like server")
    with foreign as peer, connect("127.0.0.1", peer.port) as api, refused:
        api.get_job_status("x")
    assert len(peer.requests) == 1


def test_a_refusal_keeps_the_masters_words(connect):
    with ScriptedPeer(reply("UPLOAD_FAILED: disk full")) as peer, connect("127.0.0.1", peer.port) as api:
        with pytest.raises(RequestRefused, match="UPLOAD_FAILED: disk full") as error:
            api.deploy_script(__file__)
        assert error.value.detail == "UPLOAD_FAILED: disk full"


def test_pauses_double_and_never_exceed_their_nominal_length():
    config = ClientConfig(retry=RetryPolicy(first_pause=0.1))
    for tries, nominal in ((1, 0.1), (2, 0.2), (3, 0.4)):
        assert nominal / 2 <= retry_pause(tries, config) <= nominal


@pytest.fixture(params=["sync", "async"])
def keeping(request, cluster):
    kind = TitanClient if request.param == "sync" else BlockingAsyncClient
    with kind(cluster.host, cluster.port) as api:
        yield api


def test_a_master_that_forgot_the_client_is_asked_again_who_it_is():
    hello = reply('{"server":"x","version":"1","features":["keep_alive"]}')
    gone = truncate("", 0)
    titan = reply("UNKNOWN_OPCODE: 64")
    with (
        ScriptedPeer(hello, gone, titan, reply("RUNNING")) as peer,
        TitanClient("127.0.0.1", peer.port) as api,
    ):
        assert api.get_job_status("x") == "RUNNING"
        assert api.server_info().kind == "titan"


@pytest.mark.needs("keep_alive")
def test_one_connection_serves_many_calls(keeping, cluster, monkeypatch):
    opened = []
    for module in (sync, aio):
        name = "Connection" if module is sync else "AsyncConnection"
        original = getattr(module, name).__init__
        monkeypatch.setattr(
            getattr(module, name),
            "__init__",
            lambda self, *a, original=original, **more: opened.append(1) or original(self, *a, **more),
        )
    for _ in range(20):
        keeping.get_job_status("nothing")
    assert len(opened) == 2  # one asked who the master is, one is kept


@pytest.mark.needs("keep_alive")
def test_threads_share_a_client_without_mixing_replies(cluster, unique_prefix):
    with TitanClient(cluster.host, cluster.port) as api:

        def put_and_get(index):
            key = f"{unique_prefix}-{index}"
            for turn in range(20):
                api.store_put(key, f"{index}:{turn}")
                assert api.store_get(key) == f"{index}:{turn}"
            return index

        with ThreadPoolExecutor(8) as executor:
            assert list(executor.map(put_and_get, range(16))) == list(range(16))


@pytest.mark.needs("keep_alive")
async def test_a_cancelled_call_never_leaves_its_reply_to_the_next(cluster, unique_prefix):
    async with AsyncTitanClient(cluster.host, cluster.port) as api:
        await api.store_put(unique_prefix, "mine")
        for _ in range(30):
            doomed = asyncio.ensure_future(api.store_get("another-key"))
            await asyncio.sleep(0)
            doomed.cancel()
            with pytest.raises(asyncio.CancelledError):
                await doomed
            assert await api.store_get(unique_prefix) == "mine"


@pytest.mark.needs("keep_alive")
def test_a_forked_child_opens_its_own_connections(cluster, unique_prefix):
    with TitanClient(cluster.host, cluster.port) as api:
        api.store_put(unique_prefix, "parent")
        fork = multiprocessing.get_context("fork")
        answers = fork.SimpleQueue()
        children = [fork.Process(target=lambda: answers.put(api.store_get(unique_prefix))) for _ in range(4)]
        for child in children:
            child.start()
        assert [answers.get() for _ in children] == ["parent"] * 4
        for child in children:
            child.join()
        assert api.store_get(unique_prefix) == "parent"


@pytest.mark.needs("keep_alive")
def test_a_forked_childs_changes_are_its_own(cluster, unique_prefix):
    """Their requests are not taken for copies of the parent's."""
    with TitanClient(cluster.host, cluster.port) as api:
        api.store_put(unique_prefix, "before")
        fork = multiprocessing.get_context("fork")
        children = [
            fork.Process(target=api.store_put, args=(f"{unique_prefix}-{number}", "child"))
            for number in range(4)
        ]
        for child in children:
            child.start()
        api.store_put(unique_prefix, "parent")
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0] * 4
        assert [api.store_get(f"{unique_prefix}-{number}") for number in range(4)] == ["child"] * 4
        assert api.store_get(unique_prefix) == "parent"
