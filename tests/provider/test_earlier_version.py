"""What the version before wrote into databases and stores, word for word: this one reads it, and a restart loses nothing."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from titan_provider.events import JobEvent, Outcome
from titan_provider.work.joblog import LogCursor
from titan_provider.work.plan import KnownJob, Record, WorkRecord
from titan_sdk import JobStatus

pytestmark = pytest.mark.airflow

JOB = {
    "job_id": "d.t.r.t1-0123456789",
    "nonce": "0123456789abcdef",
    "mark": "fedcba9876543210",
    "parents": ["first"],
    "requirement": "GPU",
    "kept": False,
}

TRIGGERS: dict[str, dict[str, Any]] = {
    "titan_provider.triggers.titan.TitanJobTrigger": {
        "titan_conn_id": "titan_default",
        "job_id": "d.t.r.t1-0123456789",
        "requirement": "GPU",
        "poll_interval": 2.0,
        "deadline": 1796000000.5,
        "placement_deadline": None,
        "unreachable_timeout": 300.0,
        "cancel_on_kill": True,
        "nonce": "0123456789abcdef",
        "owner_lease": None,
        "log_key": "titan:airflow:log:d.t.r.t1-0123456789:0a1b2c3d",
        "master": "127.0.0.1:9090",
    },
    "titan_provider.triggers.dag.TitanDagTrigger": {
        "titan_conn_id": "titan_default",
        "jobs": {"second": JOB},
        "poll_interval": 2.0,
        "log_interval": 30.0,
        "deadline": None,
        "unreachable_timeout": 300.0,
        "cancel_on_kill": True,
        "log_key": "titan:airflow:log:0a1b2c3d4e5f6071",
        "placement_timeout": 60.0,
        "master": "127.0.0.1:9090",
    },
    "titan_provider.triggers.admission.TitanAdmissionTrigger": {
        "titan_conn_id": "titan_default",
        "job_id": "d.t.r.t1-0123456789",
        "tag": "GPU",
        "limit": 4,
        "since": 1795999999.25,
        "deadline": None,
        "unreachable_timeout": 300.0,
    },
    "titan_provider.triggers.jobs.TitanJobsTrigger": {
        "titan_conn_id": "titan_default",
        "dag_name": None,
        "run": None,
        "job_ids": ["a", "b"],
        "poll_interval": 5.0,
        "unreachable_timeout": 300.0,
        "silent_fail": False,
        "since": 1795999999.25,
        "deadline": 1796000000.5,
    },
}


MOVED = {"titan_provider.triggers.titan.TitanJobTrigger": "titan_provider.triggers.job.TitanJobTrigger"}
"""Class paths that only rows of an earlier version have, and those that are written now."""


@pytest.mark.parametrize("path", TRIGGERS)
def test_a_trigger_in_the_database_is_built_and_written_as_before(path: str) -> None:
    module, name = path.rsplit(".", 1)
    trigger = getattr(importlib.import_module(module), name)(**TRIGGERS[path])
    found, arguments = trigger.serialize()
    assert (found, json.loads(json.dumps(arguments))) == (MOVED.get(path, path), TRIGGERS[path])


def test_the_event_of_a_trigger() -> None:
    written = {
        "outcome": "ended",
        "statuses": {"d.t.r.t1-0123456789": "COMPLETED"},
        "log_position": 3,
        "log_lines": 120,
        "message": "",
        "since": 0.0,
        "master": "127.0.0.1:9090",
        "v": 1,
    }
    event = JobEvent.from_dict(written)
    assert event == JobEvent(
        Outcome.ENDED, {"d.t.r.t1-0123456789": JobStatus.COMPLETED}, 3, 120, master="127.0.0.1:9090"
    )
    assert event.to_dict() == written


def test_a_position_in_a_log() -> None:
    text = (
        '{"position": 3, "lines": 120, "carry": "half", "dated": 12.5, "ahead": 4, "until": 13.5, "state": "50 %", '
        '"state_at": 13.0, "env": {"A": "b"}}'
    )
    cursor = LogCursor.from_text(text)
    assert cursor == LogCursor(3, 120, "half", 12.5, 4, 13.5, "50 %", 13.0, {"A": "b"})
    assert cursor.to_text() == text


RECORD = {
    "job_id": "d.t.r.t1-0123456789",
    "nonce": "0123456789abcdef",
    "max_tries": 2,
    "clear_number": 1,
    "run_started": "2026-01-01T00:00:00+00:00",
    "submitted": True,
    "master": "127.0.0.1:9090",
    "v": 1,
}


WRITTEN = {name: value for name, value in RECORD.items() if name != "submitted"}
"""Nobody reads whether the master had confirmed a job: it is asked."""


def test_the_record_of_a_job() -> None:
    record = Record.from_json(RECORD)
    assert record == Record(
        "d.t.r.t1-0123456789",
        "0123456789abcdef",
        2,
        1,
        "2026-01-01T00:00:00+00:00",
        master="127.0.0.1:9090",
    )
    assert record.to_json() == WRITTEN


def test_the_record_of_several_jobs() -> None:
    written = {"v": "dag-1", "run": RECORD, "jobs": {"second": JOB}}
    record = WorkRecord.from_json(written)
    assert record is not None
    known = KnownJob("d.t.r.t1-0123456789", "0123456789abcdef", "fedcba9876543210", ("first",), "GPU")
    assert record.jobs == {"second": known}
    assert record.to_json() == written | {"run": WRITTEN}
