"""What holds for every call: the name that its errors begin with, its advice, and how often it may be sent."""

from __future__ import annotations

import json

import pytest

from titan_sdk.errors import NotFound, PeerProtocolError, StoreUnavailable, TitanError
from titan_sdk.model.report import JobDetails
from titan_sdk.model.status import JobStatus
from titan_sdk.wire import calls, extended_calls as extended
from titan_sdk.wire.calls import Call
from titan_sdk.wire.extensions import AssetWrite
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.hello import REFUSED
from titan_sdk.wire.jobs import JobLine
from titan_sdk.wire.listing import List, read_job
from titan_sdk.wire.opcodes import STORE_FAILED, Opcode

LINE = JobLine("a", "RUN_PAYLOAD", ("a.py", "", "cGFzcw==", "GENERAL"), 1, 0)
SPLIT = "split the DAG, or send large inputs with upload_file"
FILE = "a file of up to 7.86 MB fits; make it smaller or put it where the workers can read it"
REFERENCE = "store a reference and put the bytes into a file with upload_file"


def made() -> list[tuple[Call[object], str, str, tuple[bool, bool, bool]]]:
    """Each call, its name, its advice, and whether it changes something, may bear an id, may be repeated without one."""
    asks, changes, settled, repeat = (
        (False, True, False),
        (True, True, False),
        (True, False, False),
        (True, True, True),
    )
    part, last = (AssetWrite("n", "0" * 16, 4, digest, b"x") for digest in (None, "ab"))
    return [
        (calls.submit_dag([LINE]), "submit_dag", SPLIT, settled),
        (calls.job_status("a"), "get_job_status", "", asks),
        (calls.cancel_job("a"), "cancel_job", "", repeat),
        (calls.stop_service("a"), "stop_service", "", changes),
        (calls.get_logs("a"), "fetch_logs", "", asks),
        (calls.cluster_stats(), "cluster_stats", "", asks),
        (calls.server_info(), "server_info", "", asks),
        (calls.upload_asset("n", b"x"), "upload of 'n'", FILE, changes),
        (calls.deploy_script("n", b"x"), "deploy_script 'n'", FILE, changes),
        (calls.fetch_asset("n"), "fetch of 'n'", "", asks),
        (calls.kv_set("k", "v"), "store_put 'k'", REFERENCE, changes),
        (calls.kv_set_raw("k", "v"), "store_put 'k'", REFERENCE, changes),
        (calls.kv_get("k"), "store_get 'k'", "", asks),
        (calls.kv_sadd("k", "m"), "store_sadd 'k'", REFERENCE, repeat),
        (calls.kv_smembers("k"), "store_smembers 'k'", "", asks),
        (extended.submit([LINE], "m", {"m": "1"}), "submit_dag", SPLIT, settled),
        (extended.wait(["a"], 1), "wait", "", asks),
        (extended.job_info("a"), "job_info", "", asks),
        (extended.log_read("a", 0), "fetch_logs", "", asks),
        (extended.list_page("list_jobs", List("jobs"), read_job), "list_jobs", "", asks),
        (extended.changes(None, 1), "changes", "", asks),
        (extended.asset_write(part), "upload of 'n'", "", (True, False, True)),
        (extended.asset_write(last), "upload of 'n'", "", changes),
        (extended.asset_read("n", 0), "fetch of 'n'", "", asks),
        (extended.store_delete("k"), "store_delete 'k'", "", changes),
        (extended.store_keys("p"), "store_keys 'p'", "", asks),
        (extended.store_swap("k", None, "v"), "store_swap 'k'", "", changes),
        (extended.store_expire("k", 1), "store_expire 'k'", "", changes),
    ]


def test_every_call_has_its_name_its_advice_and_its_marks() -> None:
    for call, name, advice, marks in made():
        assert (call.name, call.advice) == (name, advice)
        assert (call.changes, call.with_id, call.repeatable) == marks, name


ANY_TEXT = {
    Opcode.GET_JOB_STATUS,
    Opcode.GET_LOGS,
    Opcode.HELLO,
    Opcode.KV_GET,
    Opcode.KV_SMEMBERS,
    Opcode.STATS_JSON,
}
"""Their replies have a meaning whatever they say, or an error of their own."""


def test_a_refusal_begins_with_what_was_asked_for() -> None:
    for call, name, _, _ in made():
        if call.opcode in ANY_TEXT:
            continue
        with pytest.raises(TitanError, match="refused: ") as caught:
            call.read(Frame(Opcode.ERROR, b"ERROR: not today"))
        said = name.split(" '")[0] if name.startswith("store_") else name
        assert str(caught.value).startswith(said), (name, str(caught.value))
        assert caught.value.detail == "ERROR: not today"


def test_a_store_that_is_down_is_told_as_that() -> None:
    text = f"{STORE_FAILED}the disk is full"
    for call, *_ in made():
        if call.opcode in {Opcode.HELLO, Opcode.GET_LOGS, Opcode.STATS_JSON, Opcode.FETCH_ASSET}:
            continue
        with pytest.raises(
            StoreUnavailable, match="the master's store does not answer now: the disk is full; try again"
        ):
            call.read(Frame(Opcode.ERROR, text.encode()))


def test_every_field_of_a_job_s_details_is_its_own() -> None:
    told = {
        "state": "DEAD",
        "reason": "why",
        "attempts": 3,
        "worker": "w",
        "exit_code": 4,
        "submitted_at": 1.5,
        "started_at": 2.5,
        "ended_at": 3.5,
        "ahead": 7,
        "stopping": True,
        "history": [[1, "submitted"], [2, 5]],
    }
    details = extended.job_info("a").read(Frame(Opcode.ACK, json.dumps(told).encode()))
    assert details == JobDetails(
        job_id="a",
        state=JobStatus.DEAD,
        reason="why",
        attempts=3,
        worker="w",
        exit_code=4,
        submitted_at=1.5,
        started_at=2.5,
        ended_at=3.5,
        ahead=7,
        stopping=True,
        history=((1.0, "submitted"), (2.0, "5")),
    )
    for name in ("state", "attempts", "submitted_at", "history"):
        less = {key: value for key, value in told.items() if key != name}
        with pytest.raises(PeerProtocolError, match=f"job_info: the master's reply cannot be read: .*{name}"):
            extended.job_info("a").read(Frame(Opcode.ACK, json.dumps(less).encode()))


@pytest.mark.parametrize(
    ("opcode", "text", "whether"),
    [
        (Opcode.ERROR, REFUSED, True),
        (Opcode.ERROR, f"{REFUSED}: give a token", True),
        (Opcode.ERROR, "ERROR: not today", False),
        (Opcode.ACK, REFUSED, False),
    ],
)
def test_a_master_that_wants_a_token_is_known_by_opcode_and_text(
    opcode: int, text: str, whether: bool
) -> None:
    assert calls.is_refusal(Frame(opcode, text.encode())) is whether


@pytest.mark.parametrize("text", ["STOPPED", "STOPPED: it was", "SUCCESS"])
def test_a_stopped_service_is_told_in_the_master_s_words(text: str) -> None:
    assert calls.stop_service("a").read(Frame(Opcode.ACK, text.encode())) == text


def test_a_missing_artifact_is_told_with_the_master_s_words() -> None:
    for call in (calls.fetch_asset("n"), extended.asset_read("n", 0)):
        with pytest.raises(NotFound, match="fetch of 'n': the master has no artifact of that name") as caught:
            call.read(Frame(Opcode.ERROR, b"ERROR_NOT_FOUND: n"))
        assert caught.value.detail == "ERROR_NOT_FOUND: n"
