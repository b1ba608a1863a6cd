"""Reporting a submission to Titan's HTTP dashboard, where the client was given one."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import partial

from titan_sdk.flows.core import Flow, ask, blocking
from titan_sdk.flows.manifest import Submission
from titan_sdk.model.manifest import dashboard_manifest
from titan_sdk.session import Session
from titan_sdk.wire import calls
from titan_sdk.wire.jobs import JobLine, encode_line

__all__ = ["tell_dashboard"]


def tell_dashboard(session: Session, submission: Submission, lines: Sequence[JobLine]) -> Flow[None]:
    """Hand the submission's manifest to whoever the session says; nothing happens where it says nobody."""
    if session.on_submitted is None:
        return
    agent_run_id = submission.agent_run_id
    once = {job.job_id for job in submission.jobs if job.nonce}
    replayable = {
        line.job_id: (encode_line(line), encode_line(line._replace(parents=())))
        for line in lines
        if line.job_id not in once
    }
    manifest = dashboard_manifest(
        submission.name,
        {job.job_id: job.parents for job in submission.jobs},
        int(time.time() * 1000),
        agent_run_id=agent_run_id,
        stages=(yield from _stages(submission.name, agent_run_id)) if agent_run_id else (),
        replayable=replayable,
    )
    yield from blocking(partial(session.on_submitted, manifest))


def _stages(dag: str, agent_run_id: str) -> Flow[list[str]]:
    """The run's DAGs so far, this one added. Kept in TitanStore, as stages may be submitted by different processes;
    two that do so at the same instant may overwrite each other's entry.
    """
    key = f"titan:agent_run:{agent_run_id}"
    text = yield from ask(calls.kv_get(key))
    stages = _parse(text)
    if dag not in stages:
        stages.append(dag)
        yield from ask(calls.kv_set(key, json.dumps(stages)))
    return stages


def _parse(text: str | None) -> list[str]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        # Somebody else's value under our key: a display is not worth failing a submit for.
        return []
    return [stage for stage in found if isinstance(stage, str)] if isinstance(found, list) else []
