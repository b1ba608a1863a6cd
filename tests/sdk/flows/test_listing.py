"""Lists: what no list can be is said before anything is sent, and a master that has none is named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, InvalidArgument, NotSupported
from titan_sdk.flows import listing
from titan_sdk.session import Session
from titan_sdk.wire.listing import List, read_job
from titan_sdk.wire.opcodes import Opcode

SESSION = Session(ClientConfig())


def page(request: List, runner: FlowRunner) -> Any:
    return runner.run(listing.list_page(SESSION, request, read_job))


def bundled(call: Any) -> str:
    if call.opcode is Opcode.HELLO:
        return '{"server":"titan-sdk-bundled","version":"1","features":["list","changes"]}'
    return '{"items": [], "jobs": [], "removed": [], "cursor": "x-1", "again": false}'


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"order": "random"}, "there is no order 'random'; give one of newest, oldest, started, ended"),
        ({"limit": 0}, "limit 0 is not a number from 1 to 1,000"),
        ({"limit": 1001}, "limit 1001 is not"),
        ({"limit": True}, "limit True is not"),
        ({"contains": 5}, "contains 5 is a int, not a text"),
        ({"states": tuple("DEAD")}, "'D' is no state of a job; give some of PENDING, RUNNING, COMPLETED"),
        ({"states": ("UNKNOWN",)}, "'UNKNOWN' is no state"),
        ({"since": "now"}, "since 'now' is not a time in unix seconds"),
        ({"until": float("nan")}, "until nan is not a time"),
    ],
)
def test_what_no_list_can_be_is_said(more: dict[str, Any], sentence: str) -> None:
    runner = FlowRunner(bundled)
    with pytest.raises(InvalidArgument, match=f"list_jobs: {sentence}"):
        page(List("jobs", **more), runner)


@pytest.mark.parametrize("wait", [-1, "1", float("nan"), True])
def test_a_wait_that_is_no_time_is_said(wait: Any) -> None:
    with pytest.raises(InvalidArgument, match="is not a number of seconds"):
        FlowRunner(bundled).run(listing.changes(SESSION, "x-1", wait))


def test_a_real_master_is_named() -> None:
    runner = FlowRunner(MasterModel())
    real = Session(ClientConfig())
    with pytest.raises(
        NotSupported, match=r"list_jobs: the Titan master at .* cluster_stats\(\) has what it"
    ):
        runner.run(listing.list_page(real, List("jobs"), read_job))
    with pytest.raises(NotSupported, match=r"changes: the Titan master at .*get_job_statuses"):
        runner.run(listing.changes(real, None, 0))


def test_a_bundled_one_is_asked() -> None:
    asked = Session(ClientConfig())
    runner = FlowRunner(bundled)
    assert runner.run(listing.list_page(asked, List("jobs", states=("DEAD",), since=1), read_job)).items == ()
    assert runner.run(listing.changes(asked, "x-0", 5)).cursor == "x-1"
