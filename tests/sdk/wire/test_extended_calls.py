"""The client half of our extensions: what is sent, how replies and refusals are read."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, strategies as st

from titan_sdk.errors import CorruptData, NotFound, PeerProtocolError, RequestRefused, TitanError
from titan_sdk.model.listing import JobChanges, ListedArtifact, ListedDag, ListedJob, ListPage
from titan_sdk.model.report import JobDetails
from titan_sdk.model.status import JobStatus
from titan_sdk.wire import extended_calls as calls
from titan_sdk.wire.calls import Call
from titan_sdk.wire.extended_calls import ContentChunk, LogPiece, RunReport, WaitAnswer
from titan_sdk.wire.extensions import MAX_WAIT_SECONDS, AssetWrite, Submit, join_content
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.jobs import JobLine, encode_dag
from titan_sdk.wire.listing import List, read_artifact, read_dag, read_job, write_item
from titan_sdk.wire.opcodes import Opcode, reply_opcode

LINE = JobLine("a", "RUN_PAYLOAD", ("a.py", "", "cGFzcw==", "GENERAL"), 1, 0)
JOB = ListedJob("DAG-a", JobStatus.DEAD, 1.0, "GPU", "d", "r", "live", 2, "w", 3, "why", 4.0, 5.0)
DAG = ListedDag("d", "r", {JobStatus.DEAD: 2}, 1.0, 2.0, 3.0)
FILE = ListedArtifact("a.bin", 5, 1.5)
REPORT = {"nonce": "ab", "record": '~t1~"\\u00e9"', "tail": "x"}
CHUNK = AssetWrite("n.bin", "0" * 16, 4, None, b"\x00\xff\n")


def reply(text: str) -> Frame:
    return Frame(reply_opcode(text), text.encode())


@pytest.mark.parametrize(
    ("call", "opcode", "fields", "changes"),
    [
        (calls.wait(["a", "DAG-b"], 5.0), Opcode.WAIT, {"ids": ["DAG-a", "DAG-b"], "seconds": 5.0}, False),
        (calls.wait(["a"], 1e9), Opcode.WAIT, {"ids": ["DAG-a"], "seconds": MAX_WAIT_SECONDS}, False),
        (
            calls.wait(["a", "b"], 1, reports={"DAG-a": None}),
            Opcode.WAIT,
            {"ids": ["DAG-a", "DAG-b"], "seconds": 1, "reports": {"DAG-a": None}},
            False,
        ),
        (calls.job_info("a"), Opcode.JOB_INFO, {"id": "DAG-a"}, False),
        (calls.log_read("a", 7), Opcode.LOG_READ, {"id": "DAG-a", "offset": 7}, False),
        (
            calls.log_read("a", 7, "ab", 9),
            Opcode.LOG_READ,
            {"id": "DAG-a", "offset": 7, "nonce": "ab", "until": 9},
            False,
        ),
        (
            calls.asset_read("n", 3, "ab"),
            Opcode.ASSET_READ,
            {"name": "n", "offset": 3, "sha256": "ab"},
            False,
        ),
        (
            calls.list_page("list_jobs", List("jobs", tag="GPU"), read_job),
            Opcode.LIST,
            {"what": "jobs", "tag": "GPU"},
            False,
        ),
        (calls.changes(None, 1e9), Opcode.CHANGES, {"cursor": None, "seconds": MAX_WAIT_SECONDS}, False),
        (calls.store_delete("é"), Opcode.STORE_DELETE, {"key": '~t1~"\\u00e9"'}, True),
        (calls.store_keys("p", "q"), Opcode.STORE_KEYS, {"prefix": "p", "after": "q"}, False),
        (calls.store_expire("k", 1.5), Opcode.STORE_EXPIRE, {"key": "k", "seconds": 1.5}, True),
        (
            calls.store_swap("k", None, "é"),
            Opcode.STORE_SWAP,
            {"key": "k", "expected": None, "value": '~t1~"\\u00e9"'},
            True,
        ),
        (
            calls.store_swap("k", "NULL", None),
            Opcode.STORE_SWAP,
            {"key": "k", "expected": '~t1~"NULL"', "value": None},
            True,
        ),
    ],
)
def test_what_is_sent(call: Call[object], opcode: Opcode, fields: object, changes: bool) -> None:
    assert (call.opcode, call.changes, call.repeatable) == (opcode, changes, False)
    assert json.loads(call.encoded()) == fields


def test_a_submission_is_one_request_with_its_values_in_their_stored_form() -> None:
    call = calls.submit([LINE], "titan:dag:é:1", {"titan:dag:é:1": "NULL", "k": "v"})
    request = Submit.decode(call.encoded())
    assert (call.opcode, call.with_id, call.feature) == (Opcode.SUBMIT, False, "submit")
    assert request.dag == encode_dag([LINE])
    assert request.mark == '~t1~"titan:dag:\\u00e9:1"'
    assert request.values == {request.mark: '~t1~"NULL"', "k": "v"}


def test_a_chunk_is_sent_as_raw_bytes() -> None:
    call = calls.asset_write(CHUNK)
    assert (call.opcode, call.encoded()) == (Opcode.ASSET_WRITE, CHUNK.encode())
    assert call.read(reply('{"size": 7}')) == 7


@pytest.mark.parametrize(
    ("call", "text", "value"),
    [
        (
            calls.wait(["a"], 1),
            '{"states": {"DAG-a": "DEAD", "DAG-b": "NULL"}}',
            WaitAnswer({"DAG-a": JobStatus.DEAD, "DAG-b": JobStatus.UNKNOWN}),
        ),
        (
            calls.wait(["a", "b"], 1),
            json.dumps(
                {"states": {}, "reports": {"DAG-a": REPORT, "DAG-b": {"nonce": None, "record": None}}}
            ),
            WaitAnswer({}, {"DAG-a": RunReport("ab", "é", "x"), "DAG-b": RunReport(None, None)}),
        ),
        (calls.submit([LINE], "m", {"m": "1"}), '{"taken": true}', None),
        (
            calls.submit([LINE], "m", {"m": "1"}),
            '{"taken": false, "id": "DAG-a", "state": "RUNNING"}',
            ("DAG-a", JobStatus.RUNNING),
        ),
        (
            calls.job_info("a"),
            '{"state": "PENDING", "ahead": 2, "attempts": 0, "submitted_at": 5, "history": [[5, "queued"]]}',
            JobDetails("a", JobStatus.PENDING, None, 0, None, None, 5.0, None, None, 2, ((5.0, "queued"),)),
        ),
        (calls.log_read("a", 0), '{"text": "x", "next": 1, "ended": true}', LogPiece("x", 1, True)),
        (
            calls.list_page("list_jobs", List("jobs"), read_job),
            json.dumps({"items": [write_item(JOB)], "cursor": "1:1", "total": 2, "changes": "x-1"}),
            ListPage((JOB,), "1:1", 2, "x-1"),
        ),
        (
            calls.list_page("list_dags", List("dags"), read_dag),
            json.dumps({"items": [write_item(DAG)], "cursor": None}),
            ListPage((DAG,)),
        ),
        (
            calls.list_page("list_artifacts", List("artifacts"), read_artifact),
            json.dumps({"items": [write_item(FILE)]}),
            ListPage((FILE,)),
        ),
        (
            calls.changes("x-1", 5),
            json.dumps({"jobs": [write_item(JOB)], "removed": ["b"], "cursor": "x-2", "again": False}),
            JobChanges((JOB,), ("b",), "x-2"),
        ),
        (calls.store_delete("k"), '{"deleted": false}', False),
        (calls.store_keys("k"), '{"keys": ["k1"], "more": true}', (["k1"], True)),
        (calls.store_swap("k", None, "v"), '{"swapped": true}', True),
        (calls.store_expire("k", 1), '{"set": true}', True),
    ],
)
def test_how_replies_are_read(call: Call[object], text: str, value: object) -> None:
    assert call.read(reply(text)) == value
    with pytest.raises(PeerProtocolError, match="the master's reply cannot be read: expected a JSON object"):
        call.read(reply("OK"))


def test_a_number_that_nothing_can_be_counted_in_is_a_peer_error() -> None:
    info = {"state": "PENDING", "attempts": 1, "submitted_at": 1, "history": [[10**400, "submitted"]]}
    with pytest.raises(PeerProtocolError, match="job_info: the master's reply cannot be read"):
        calls.job_info("a").read(reply(json.dumps(info)))


@pytest.mark.parametrize(
    ("states", "state"),
    [
        ({"PENDING": 2}, "PENDING"),
        ({"PENDING": 1, "COMPLETED": 1}, "RUNNING"),
        ({"RUNNING": 1, "DEAD": 1}, "RUNNING"),
        ({"COMPLETED": 3, "PENDING": 0}, "COMPLETED"),
        ({"COMPLETED": 1, "CANCELLED": 1, "DEAD": 1}, "DEAD"),
        ({"COMPLETED": 1, "CANCELLED": 1}, "CANCELLED"),
    ],
)
def test_a_dag_s_state_is_that_of_its_jobs(states: dict[str, int], state: str) -> None:
    found = {JobStatus(word): count for word, count in states.items()}
    assert ListedDag("d", "r", found, 1.0).state == state


def test_content_is_read_with_the_size_and_digest_of_the_whole() -> None:
    payload = join_content('{"size": 9, "sha256": "ab"}', b"\xff\n\x00")
    assert calls.asset_read("n", 0).read(Frame(Opcode.ACK, payload)) == ContentChunk(b"\xff\n\x00", 9, "ab")


@pytest.mark.parametrize(
    ("text", "kind", "sentence"),
    [
        ("ERROR_NOT_FOUND", NotFound, "fetch of 'n': the master has no artifact of that name"),
        (
            "ERROR: checksum differs",
            CorruptData,
            "fetch of 'n': the master received other bytes than were sent; try again (ERROR: checksum differs)",
        ),
        ("ERROR: changed", RequestRefused, "fetch of 'n': the master refused: changed"),
        ("UNKNOWN_OPCODE: 69", RequestRefused, "fetch of 'n': the master refused: UNKNOWN_OPCODE: 69"),
    ],
)
def test_failures_are_known_by_their_opcode(text: str, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind) as caught:
        calls.asset_read("n", 0).read(reply(text))
    assert type(caught.value) is kind
    assert str(caught.value) == sentence


ALL = [
    calls.wait(["a"], 1),
    calls.job_info("a"),
    calls.log_read("a", 0),
    calls.asset_write(CHUNK),
    calls.asset_read("n", 0),
    calls.store_delete("k"),
    calls.store_keys("k"),
    calls.store_swap("k", None, None),
    calls.store_expire("k", 1),
]


@given(
    st.sampled_from(ALL),
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(["states", "text", "next", "ended", "size", "sha256", "keys", "more", "swapped"]),
        st.none()
        | st.integers()
        | st.floats()
        | st.text(max_size=4)
        | st.booleans()
        | st.just([1])
        | st.just({}),
    ).map(lambda fields: json.dumps(fields).encode()),
)
def test_any_reply_is_a_value_or_an_error_of_ours(call: Call[object], payload: bytes) -> None:
    with contextlib.suppress(TitanError):
        call.read(Frame(Opcode.ACK, payload))
