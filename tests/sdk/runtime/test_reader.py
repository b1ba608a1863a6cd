from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from titan_sdk.errors import CorruptData
from titan_sdk.runtime import keys, reader
from titan_sdk.runtime.worker import keys as worker_keys

RUNNING: dict[str, Any] = {
    "v": 1, "state": "running", "attempt": 1, "token": "ab", "worker": "GPU-1", "host": "h", "pid": 7,
    "started_at": 1.5, "ended_at": None, "heartbeat_at": 2, "exit_code": None, "signal": None,
    "exception": None, "reason": None, "progress": {"fraction": 1, "text": "t"}, "log_chunks": 3, "result": None,
}  # fmt: skip


def parse(**changes: Any) -> reader.RunState:
    return reader.parse_state(json.dumps({**RUNNING, **changes}))


def test_a_running_record_is_read() -> None:
    state = parse()
    assert (state.state, state.ended, state.succeeded) == ("running", False, False)
    assert (state.attempt, state.worker, state.pid, state.log_chunks) == (1, "GPU-1", 7, 3)
    assert (state.started_at, state.ended_at, state.heartbeat_at) == (1.5, None, 2.0)
    assert state.progress == (1.0, "t")


def test_a_final_record_is_read() -> None:
    state = parse(
        state="failed",
        exit_code=1,
        exception={"type": "ValueError", "message": "m", "traceback": "t"},
        result={"chunks": 1, "bytes": 2, "sha256": "x"},
        progress=None,
    )
    assert state.ended
    assert state.exception == reader.ExceptionInfo("ValueError", "m", "t")
    assert state.result == reader.ResultInfo(1, 2, "x")
    assert parse(state="succeeded").succeeded


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"state record is not JSON"),
        ("[]", r"is not a JSON object"),
        ('{"v": 2}', r"has the version 2; this SDK reads version 1, so upgrade it"),
        ('{"v": 1}', r"has no field 'state'"),
        (json.dumps({**RUNNING, "state": "dreaming"}), r"has the state 'dreaming'"),
        (json.dumps({**RUNNING, "attempt": "1"}), r"holds '1' in 'attempt' where int belongs"),
        (json.dumps({**RUNNING, "attempt": True}), r"holds True in 'attempt'"),
        (
            json.dumps({**RUNNING, "exception": {"type": "E"}}),
            r"state record's exception has no field 'message'",
        ),
        (json.dumps({**RUNNING, "result": []}), r"holds \[\] in 'result' where dict belongs"),
        (
            json.dumps({**RUNNING, "heartbeat_at": 10**400}),
            r"holds 10+ in 'heartbeat_at' where float belongs",
        ),
    ],
)
def test_a_damaged_record_is_corrupt_data(text: str, complaint: str) -> None:
    with pytest.raises(CorruptData, match=complaint):
        reader.parse_state(text)


@given(st.one_of(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_any_text_is_read_or_is_corrupt_data(text: str) -> None:
    for parse_it in (reader.parse_state, reader.parse_log_chunk, reader.parse_result_slice):
        with pytest.raises(CorruptData):
            parse_it(text)


@given(
    st.sampled_from(sorted(RUNNING)),
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.none()),
)
def test_any_field_of_any_kind_is_read_or_is_corrupt_data(name: str, value: Any) -> None:
    try:
        parse(**{name: value})
    except CorruptData:
        pass


def test_log_chunks_and_result_slices_are_read() -> None:
    assert reader.parse_log_chunk('{"v":1,"attempt":2,"text":"x\\n"}') == reader.LogChunk(2, "x\n")
    text = json.dumps({"a": ["é", None]})
    info = reader.ResultInfo(2, len(text), hashlib.sha256(text.encode()).hexdigest())
    slices = [json.dumps({"v": 1, "data": part}) for part in (text[:5], text[5:])]
    assert reader.join_result(info, slices) == {"a": ["é", None]}
    with pytest.raises(CorruptData, match="another checksum"):
        reader.join_result(info, slices[:1])
    with pytest.raises(CorruptData, match="another checksum"):
        reader.join_result(info, slices[::-1])


def test_a_result_with_the_right_checksum_that_is_not_json_is_corrupt_data() -> None:
    info = reader.ResultInfo(1, 1, hashlib.sha256(b"{").hexdigest())
    with pytest.raises(CorruptData, match="not JSON"):
        reader.join_result(info, ['{"v":1,"data":"{"}'])


def test_both_sides_use_the_same_keys() -> None:
    assert keys.state_key("DAG-a", "n") == worker_keys.state_key("DAG-a", "n") == "titan:run:DAG-a:n:state"
    assert keys.result_key("DAG-a", "n", 2) == worker_keys.result_key("DAG-a", "n", 2)
    assert keys.log_key("DAG-a", "n", 3) == worker_keys.log_key("DAG-a", "n", 3)
    assert keys.lease_key("DAG-a", "n") == worker_keys.lease_key("DAG-a", "n")
    assert keys.job_key("DAG-a") == "titan:job:DAG-a"
