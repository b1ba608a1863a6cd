"""The drivers: bytes in any chunking, a retry only where it is safe, errors that say what may have happened."""

from __future__ import annotations

import pytest

from tests.support.blocking_async import BlockingAsyncClient
from tests.support.scripted_peer import ScriptedPeer, raw, reply, reply_bytewise, reset_after, truncate
from titan_sdk import (
    ClientConfig,
    ConnectFailed,
    ConnectionLost,
    PeerProtocolError,
    RequestRefused,
    TitanClient,
)
from titan_sdk.config import RetryPolicy
from titan_sdk.drivers import may_repeat, retry_pause
from titan_sdk.wire import calls
from titan_sdk.wire.opcodes import Opcode


@pytest.fixture(params=["sync", "async"])
def connect(request):
    return TitanClient if request.param == "sync" else BlockingAsyncClient


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


def test_only_safe_calls_are_repeated():
    config = ClientConfig(retry=RetryPolicy(attempts=2))
    question, action = calls.job_status("x"), calls.stop_service("x")
    assert may_repeat(question, ConnectionLost("lost"), 1, config)
    assert not may_repeat(question, ConnectionLost("lost"), 2, config)
    assert not may_repeat(action, ConnectionLost("lost"), 1, config)
    assert may_repeat(action, ConnectFailed("refused"), 1, config)


def test_pauses_double_and_never_exceed_their_nominal_length():
    config = ClientConfig(retry=RetryPolicy(first_pause=0.1))
    for tries, nominal in ((1, 0.1), (2, 0.2), (3, 0.4)):
        assert nominal / 2 <= retry_pause(tries, config) <= nominal
