"""What Titan's HTTP dashboard is told of a DAG, key for key as upstream's SDK does it (protocol section 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from titan_sdk.model.rules import full_id

__all__ = ["dashboard_manifest"]


def dashboard_manifest(
    dag: str,
    parents: Mapping[str, Sequence[str]],
    run_ts: int,
    *,
    agent_run_id: str | None = None,
    stages: Sequence[str] = (),
    replayable: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """The manifest of one submission, to be merged by the dashboard with what it has.

    Args:
        parents: by id, every job of the DAG and what it depends on.
        run_ts: when it was submitted, in milliseconds.
        stages: DAGs of the agent run so far, this one included, in order.
        replayable: by id, the job's line as it was sent and without its parents: what the dashboard sends again for
            "redeploy" and "replay". Left out where that would not run again: a job with the runtime runs once per
            submission. The dashboard then says so.
    """
    manifest: dict[str, Any] = {}
    for job_id, above in parents.items():
        entry: dict[str, Any] = {"dag": dag, "deps": [full_id(p) for p in above], "run_ts": run_ts}
        if agent_run_id:
            entry["agent_run_id"] = agent_run_id
        manifest[full_id(job_id)] = entry
    if agent_run_id:
        manifest[f"__agent_run__{agent_run_id}"] = {
            "agent_run_id": agent_run_id,
            "stages": list(stages),
            "run_ts": run_ts,
        }
    lines = replayable or {}
    if lines and lines.keys() >= parents.keys():
        payload = " ; ".join(line for line, _ in lines.values())
        manifest[f"__payload__{dag}"] = {"dag_payload": payload, "run_ts": run_ts}
    for job_id, (_, alone) in lines.items():
        manifest[f"__job_payload__{full_id(job_id)}"] = alone
    return manifest
