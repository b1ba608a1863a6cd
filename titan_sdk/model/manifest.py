"""The manifest of a DAG for Titan's HTTP dashboard, with the keys of upstream's SDK (protocol section 11)."""

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
    """The manifest of one submission. The dashboard merges it with its own.

    Args:
        parents: the ids of each job's parents, by the job's id.
        run_ts: the time of the submission, in milliseconds.
        stages: the DAGs of the agent run so far, including this one, in order.
        replayable: by id, the job's line as it was sent, without its parents. The dashboard sends it again for "redeploy"
            and "replay". Jobs with the runtime are left out, because they run once per submission; the dashboard then
            says so.
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
