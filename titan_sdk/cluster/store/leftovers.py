"""What the SDK leaves in TitanStore about its jobs and DAGs, as far as forgetting them has to know."""

from __future__ import annotations

import json

from titan_sdk.wire.store_text import encode_key

__all__ = ["dag_of", "latest_key", "listed_jobs", "manifest_prefix", "record_key", "run_prefix"]


def record_key(job_id: str) -> str:
    """Where a job's record is."""
    return encode_key(f"titan:job:{job_id}")


def run_prefix(job_id: str) -> str:
    """How the keys of a job's runs begin."""
    return _prefix(encode_key(f"titan:run:{job_id}:"))


def latest_key(dag: str) -> str:
    """Where a DAG's latest manifest is named."""
    return encode_key("titan:dag:" + dag.replace("%", "%25").replace(":", "%3A"))


def manifest_prefix(dag: str) -> str:
    """How the keys of a DAG's manifests begin."""
    return _prefix(latest_key(dag) + ":")


def dag_of(job_id: str, record: str | None) -> str:
    """The DAG that a job's record names; a job without one that was submitted alone is a DAG of its own name."""
    dag = _field(record, "dag")
    return dag if isinstance(dag, str) else job_id.removeprefix("DAG-")


def listed_jobs(manifest: str) -> list[str] | None:
    """The ids under which a manifest's jobs may be known; ``None`` if it is not one as we write it: whoever wrote it
    may want it.
    """
    listed = _field(manifest, "jobs")
    if not isinstance(listed, list):
        return None
    ids = [entry.get("id") if isinstance(entry, dict) else entry for entry in listed]
    return [known for job_id in ids if isinstance(job_id, str) for known in (job_id, f"DAG-{job_id}")]


def _field(text: str | None, name: str) -> object:
    try:
        return json.loads(text).get(name) if text is not None else None
    except (ValueError, AttributeError):
        return None


def _prefix(key: str) -> str:
    # An encoded key ends with a quote, which is not a part of the prefix.
    return key.removesuffix('"')
