"""The client half of each operation: what is sent, and how each reply of a real master is read."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given, strategies as st

from titan_sdk.errors import (
    LocalProtocolError,
    NotFound,
    PeerProtocolError,
    RequestRefused,
    StoreUnavailable,
    TitanError,
)
from titan_sdk.model.status import JobStatus
from titan_sdk.wire import calls, extended_calls
from titan_sdk.wire.calls import Call
from titan_sdk.wire.fields import encode_member, encode_value
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.jobs import RUN_PAYLOAD, JobLine
from titan_sdk.wire.opcodes import STORE_FAILED, Opcode, reply_opcode

LINE = JobLine("DAG-a", RUN_PAYLOAD, ("f.py", "", "QQ==", "GPU"))


AFTER_A_LOST_REPLY = {
    "asks": (False, True, False),
    "id": (True, True, False),
    "repeat": (True, True, True),
    "settled": (True, False, False),
}
"""What may be done: ask again; repeat it with an id; repeat it even without; ask what became of it."""


def reply(text: str) -> Frame:
    """As a master sends it: the opcode follows from the text (section 1.1)."""
    return Frame(reply_opcode(text), text.encode())


@pytest.mark.parametrize(
    ("call", "opcode", "payload", "lost_reply"),
    [
        (calls.submit_dag([LINE]), Opcode.SUBMIT_DAG, "DAG-a|RUN_PAYLOAD|f.py||QQ==|GPU|1|0|[]", "settled"),
        (calls.job_status("a"), Opcode.GET_JOB_STATUS, "DAG-a", "asks"),
        (calls.job_status("DAG-a"), Opcode.GET_JOB_STATUS, "DAG-a", "asks"),
        (calls.cancel_job("a"), Opcode.CANCEL_JOB, "DAG-a", "repeat"),
        (calls.stop_service("a"), Opcode.STOP, "DAG-a", "id"),
        (calls.get_logs("a"), Opcode.GET_LOGS, "DAG-a", "asks"),
        (calls.cluster_stats(), Opcode.STATS_JSON, "", "asks"),
        (calls.server_info(), Opcode.HELLO, '{"v":1}', "asks"),
        (calls.upload_asset("n.bin", b"hi"), Opcode.UPLOAD_ASSET, "n.bin|aGk=", "id"),
        (calls.deploy_script("n.py", b"hi"), Opcode.DEPLOY_SCRIPT, "n.py|aGk=", "id"),
        (calls.fetch_asset("n.bin"), Opcode.FETCH_ASSET, "n.bin", "asks"),
        (calls.kv_set("k", "a|b"), Opcode.KV_SET, "k|a|b", "id"),
        (calls.kv_set("é|", "ü"), Opcode.KV_SET, '~t1~"\\u00e9\\u007c"|~t1~"\\u00fc"', "id"),
        (calls.kv_get("k"), Opcode.KV_GET, "k", "asks"),
        (calls.kv_sadd("k", "a,b"), Opcode.KV_SADD, 'k|~t1~"a\\u002cb"', "repeat"),
        (calls.kv_smembers("k"), Opcode.KV_SMEMBERS, "k", "asks"),
    ],
)
def test_what_is_sent(call: Call[object], opcode: Opcode, payload: str, lost_reply: str) -> None:
    assert (call.opcode, call.payload) == (opcode, payload)
    assert (call.changes, call.with_id, call.repeatable) == AFTER_A_LOST_REPLY[lost_reply]
    assert call.encoded() == payload.encode()


def test_a_payload_that_is_no_text_is_refused_rather_than_altered() -> None:
    with pytest.raises(LocalProtocolError, match="which UTF-8 cannot hold"):
        calls.fetch_asset("a\udcff.bin").encoded()


def test_a_pipe_in_an_artifact_s_name_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match=r"contains '\|'"):
        calls.upload_asset("a|b", b"")


# -- fixed answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (calls.submit_dag([LINE]), "DAG_ACCEPTED"),
        (calls.upload_asset("n", b""), "UPLOAD_SUCCESS"),
        (calls.deploy_script("n", b""), "DEPLOY_SUCCESS"),
        (calls.kv_set("k", "v"), "OK"),
    ],
)
def test_the_one_good_answer_and_nothing_else(call: Call[str], wanted: str) -> None:
    assert call.read(reply(wanted)) == wanted
    for text in ("", "ERROR: Invalid Format", wanted + "!"):
        with pytest.raises(RequestRefused) as caught:
            call.read(reply(text))
        assert caught.value.detail == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ERROR: job 'a' is there twice", "submit_dag: the master refused: job 'a' is there twice"),
        ("SERVER_ERROR: boom", "submit_dag: the master refused: SERVER_ERROR: boom"),
        ("", "submit_dag: the master refused: an empty answer"),
    ],
)
def test_a_refusal_quotes_the_master(text: str, sentence: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        calls.submit_dag([LINE]).read(reply(text))
    assert str(caught.value) == sentence


# -- jobs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("PENDING", JobStatus.PENDING),
        ("RUNNING", JobStatus.RUNNING),
        ("COMPLETED", JobStatus.COMPLETED),
        ("DEAD", JobStatus.DEAD),
        ("CANCELLED", JobStatus.CANCELLED),
        ("NULL", JobStatus.UNKNOWN),
        ("OK", JobStatus.UNKNOWN),
    ],
)
def test_status_words(word: str, status: JobStatus) -> None:
    assert calls.job_status("a").read(reply(word)) is status


def test_cancel_tells_the_two_answers_apart_and_refuses_others() -> None:
    read = calls.cancel_job("a").read
    assert read(reply("CANCELLED")) is True
    assert read(reply("NOT_FOUND")) is False
    with pytest.raises(RequestRefused, match="cancel_job: the master refused: SERVER_ERROR"):
        read(reply("SERVER_ERROR: x"))


@pytest.mark.parametrize(
    "text",
    ["ERROR: Service DAG-a not found in liveServiceMap. Current keys: []", "UNKNOWN_SERVICE: DAG-a"],
)
def test_stopping_what_does_not_run_is_not_found(text: str) -> None:
    with pytest.raises(NotFound, match="stop_service: no such running service") as caught:
        calls.stop_service("a").read(reply(text))
    assert caught.value.detail == text


def test_stop_returns_the_confirmation_and_refuses_a_communication_error() -> None:
    read = calls.stop_service("a").read
    assert read(reply("STOPPED: DAG-a")) == "STOPPED: DAG-a"
    with pytest.raises(RequestRefused, match="COMMUNICATION_ERROR: worker gone"):
        read(reply("COMMUNICATION_ERROR: worker gone"))


@pytest.mark.parametrize("log", ["", "ERROR: the user's own line", "NULL", "a\nb\n"])
def test_a_log_is_text_whatever_it_begins_with(log: str) -> None:
    assert calls.get_logs("a").read(reply(log)) == log


# -- artifacts ----------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_an_artifact_comes_back_as_its_bytes(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert calls.fetch_asset("n").read(reply(text)) == data


@pytest.mark.parametrize("text", ["ERRORabc", "UNKNOWN+", "ERROR==="[:5] + "AAA"])
def test_base64_that_begins_like_an_error_is_still_a_file(text: str) -> None:
    frame = reply(text)
    assert frame.opcode == Opcode.ERROR
    assert calls.fetch_asset("n").read(frame) == base64.b64decode(text)


def test_an_absent_artifact_is_not_found() -> None:
    with pytest.raises(NotFound) as caught:
        calls.fetch_asset("n").read(reply("ERROR_NOT_FOUND"))
    assert str(caught.value) == "fetch of 'n': the master has no artifact of that name"


@pytest.mark.parametrize(
    "text",
    ["ERROR_READING_FILE: Is a directory", "SERVER_ERROR: x", "ERROR: x", "NULL!", "UNKNOWN_OPCODE: 84"],
)
def test_other_failures_of_a_fetch_are_refusals_with_the_master_s_words(text: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        calls.fetch_asset("n").read(reply(text))
    assert caught.value.detail == text
    assert text in str(caught.value)


# -- store --------------------------------------------------------------------------------------------


@given(st.text(st.characters()))
def test_a_value_comes_back_as_it_was_put(text: str) -> None:
    assert calls.kv_get("k").read(reply(encode_value(text))) == text


def test_null_is_absent_and_a_foreign_value_like_an_error_is_a_value() -> None:
    read = calls.kv_get("k").read
    assert read(reply("NULL")) is None
    assert read(reply("ERROR: disk full")) == "ERROR: disk full"
    assert read(reply("")) == ""


@pytest.mark.parametrize(
    "call",
    [
        calls.kv_get("k"),
        calls.kv_set("k", "v"),
        calls.kv_sadd("k", "m"),
        calls.kv_smembers("k"),
        calls.job_status("a"),
        extended_calls.store_keys(""),
    ],
    ids=lambda call: call.name,
)
def test_a_store_that_fails_is_no_value_and_no_no(call: Call[object]) -> None:
    """The bundled master's Redis is away, say: the sentence is neither the value nor, cut at its commas, the members."""
    text = f"{STORE_FAILED}the store redis://x cannot be reached (Error 111, refused); start it, or correct --store"
    with pytest.raises(
        StoreUnavailable, match=r"store does not answer now: the store redis://x .*try again"
    ) as found:
        call.read(reply(text))
    assert str(found.value).startswith(call.name.split(" ")[0])
    assert not found.value.outcome_unknown


def test_sadd_reads_a_count_and_refuses_anything_else() -> None:
    read = calls.kv_sadd("k", "m").read
    assert [read(reply("1")), read(reply("0"))] == [1, 0]
    with pytest.raises(RequestRefused, match="store_sadd: the master refused: Invalid Format"):
        read(reply("ERROR: Invalid Format"))


def test_smembers_reads_every_member() -> None:
    read = calls.kv_smembers("k").read
    assert read(reply("")) == []
    assert read(reply(",".join(map(encode_member, ["a", "", "b,c"])))) == ["a", "", "b,c"]


# -- the master itself --------------------------------------------------------------------------------


def test_server_info_knows_a_real_master_by_its_unknown_opcode() -> None:
    assert calls.server_info().read(reply("UNKNOWN_OPCODE: 64")).kind == "titan"


def test_cluster_stats_are_read_from_json() -> None:
    assert calls.cluster_stats().read(reply('{"workers": [], "queue_size": 3}')).queue_size == 3
    with pytest.raises(PeerProtocolError):
        calls.cluster_stats().read(reply("{"))


ALL = [
    calls.submit_dag([LINE]),
    calls.job_status("a"),
    calls.cancel_job("a"),
    calls.stop_service("a"),
    calls.get_logs("a"),
    calls.cluster_stats(),
    calls.server_info(),
    calls.upload_asset("n", b""),
    calls.fetch_asset("n"),
    calls.kv_set("k", "v"),
    calls.kv_get("k"),
    calls.kv_sadd("k", "m"),
    calls.kv_smembers("k"),
]


@given(st.sampled_from(ALL), st.binary(max_size=80))
def test_any_reply_is_a_value_or_an_error_of_ours(call: Call[object], payload: bytes) -> None:
    with contextlib.suppress(TitanError):
        call.read(Frame(Opcode.ACK, payload))
