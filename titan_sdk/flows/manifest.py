"""The manifest of a submission in TitanStore, by which any client can follow a DAG by its name.

``titan:dag:<name>`` names the latest run, ``titan:dag:<name>:<run>`` lists its jobs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from titan_sdk.errors import CorruptData, NotFound, StoreUnavailable
from titan_sdk.flows.archives import Archive
from titan_sdk.flows.confirmed_writes import put_own
from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.liveness import is_kept
from titan_sdk.flows.report import JobRecord
from titan_sdk.model.job import TitanJob
from titan_sdk.model.rules import full_id
from titan_sdk.runtime import keys
from titan_sdk.wire import calls

__all__ = ["Submission", "SubmittedJob", "find_dag", "records_of", "write_manifest", "write_records"]


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """The data for following a job. ``nonce`` is ``None`` for a job without the runtime."""

    job_id: str
    nonce: str | None
    parents: tuple[str, ...] = ()
    """Full ids of its parents inside the same DAG."""
    first_id: str | None = None
    """The id of the first submission, if the job was submitted again under another id."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A DAG that the master has taken."""

    name: str
    run_id: str
    jobs: tuple[SubmittedJob, ...]
    """In the given order, with the approval gates at the end."""
    agent_run_id: str | None = None
    source: tuple[TitanJob, ...] = field(default=(), compare=False, repr=False)
    """The submitted jobs; in this process only."""
    archives: Mapping[str, Archive] = field(default_factory=dict, compare=False, repr=False)
    """The archives of the jobs, by the names that the jobs use; in this process only."""
    scripts: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """The SHA-256 of their script files; in this process only."""


def write_records(submission: Submission) -> Flow[None]:
    """Write the records by which other clients find the jobs, before the jobs are sent, so that no job is without one.

    Every record is read back: a real master loses acknowledged writes while its store is down. On a real master jobs
    without the runtime have records too, because a later cancel needs them.

    Raises:
        StoreUnavailable: the store did not keep a record.
    """
    for key, text in records_of(submission, plain=True)[1].items():
        if not (yield from is_kept(key, text)):
            raise StoreUnavailable(
                f"DAG {submission.name!r}: nothing was submitted, because the master's store did not keep the record "
                f"{key!r}, without which nobody could tell afterwards whether it runs; try again once `titan doctor` "
                "finds the store well"
            )


def records_of(submission: Submission, *, plain: bool) -> tuple[str, dict[str, str]]:
    """The key of the submission's manifest, and all records in their stored form, by key.

    Args:
        plain: whether to include jobs without the runtime.
    """
    now = time.time()
    source = {job.full_id: job for job in submission.source}
    values: dict[str, dict[str, Any]] = {}
    for job in submission.jobs:
        if job.nonce or plain:
            record = _record_of(job, source.get(full_id(job.job_id)), now)
            values[keys.job_key(full_id(job.job_id))] = {
                **record.to_json(),
                "dag": submission.name,
                "submitted_at": now,
            }
    own = _run_key(submission.name, submission.run_id)
    values[own] = _manifest(submission)
    values[_latest_key(submission.name)] = {"run": submission.run_id}
    return own, {key: json.dumps({"v": 1, **value}) for key, value in values.items()}


def _record_of(job: SubmittedJob, source: TitanJob | None, now: float) -> JobRecord:
    if job.nonce or source is None:
        return JobRecord(job.nonce)
    due_at = now + source.delay_ms / 1000 if source.delay_ms else None
    return JobRecord(None, source.kind.is_service, due_at, job.parents)


def write_manifest(submission: Submission) -> Flow[None]:
    """Write the list of the submission's jobs. It replaces an earlier one of the same run."""
    text = json.dumps({"v": 1, **_manifest(submission)})
    yield from put_own(_run_key(submission.name, submission.run_id), text)


def _manifest(submission: Submission) -> dict[str, Any]:
    return {
        "name": submission.name,
        "run": submission.run_id,
        "submitted_at": time.time(),
        "agent_run_id": submission.agent_run_id,
        "jobs": [_entry(job) for job in submission.jobs],
    }


def _entry(job: SubmittedJob) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": job.job_id, "nonce": job.nonce, "parents": list(job.parents)}
    return {**entry, "first_id": job.first_id} if job.first_id else entry


def find_dag(name: str, run: str | None = None) -> Flow[Submission]:
    """The latest submission of that name, or the one called ``run``.

    Raises:
        NotFound: no DAG of that name was submitted through this SDK. Follow other DAGs by their job ids.
    """
    if run is None:
        latest = yield from _record(_latest_key(name), name)
        run = str(latest.get("run"))
    manifest = yield from _record(_run_key(name, run), name)
    try:
        jobs = tuple(
            SubmittedJob(j["id"], j["nonce"], tuple(j["parents"]), j.get("first_id"))
            for j in manifest["jobs"]
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise CorruptData(f"the manifest of DAG {name!r}, run {run!r}, cannot be read: {manifest!r}") from exc
    return Submission(name, run, jobs)


def _latest_key(name: str) -> str:
    # Without the escape, the DAG "a:b" would be the run "b" of the DAG "a".
    return "titan:dag:" + name.replace("%", "%25").replace(":", "%3A")


def _run_key(name: str, run: str) -> str:
    return f"{_latest_key(name)}:{run}"


def _record(key: str, name: str) -> Flow[dict[str, Any]]:
    text = yield from ask(calls.kv_get(key))
    if text is None:
        raise NotFound(
            f"find_dag: TitanStore has no manifest {key!r}; was the DAG {name!r} submitted through this SDK? "
            "Follow other DAGs by their job ids"
        )
    try:
        record = json.loads(text)
    except ValueError as exc:
        raise CorruptData(f"TitanStore key {key!r} holds {text[:80]!r}, which is not JSON") from exc
    if not isinstance(record, dict):
        raise CorruptData(f"TitanStore key {key!r} holds {text[:80]!r}, which is not a JSON object")
    return record
