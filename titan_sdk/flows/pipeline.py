"""Pipelines: a YAML file becomes a DAG; in project mode its folder travels as an archive."""

from __future__ import annotations

import os
from functools import partial

from titan_sdk.errors import InvalidDag, InvalidPipeline
from titan_sdk.flows.archives import pack_folder
from titan_sdk.flows.core import Flow, blocking
from titan_sdk.flows.manifest import Submission
from titan_sdk.flows.submit import submit_dag
from titan_sdk.flows.transfer import Progress
from titan_sdk.model.pipeline import load_pipeline
from titan_sdk.session import Session

__all__ = ["submit_yaml"]


def submit_yaml(
    session: Session,
    path: str | os.PathLike[str],
    agent_run_id: str | None = None,
    *,
    progress: Progress | None = None,
) -> Flow[Submission]:
    """Submit the pipeline of a YAML file.

    Args:
        progress: told of archives that are uploaded.

    Raises:
        InvalidPipeline: the file is wrong; names file, line and key. Nothing was sent.
    """
    pipeline = yield from blocking(partial(load_pipeline, path))
    archives = {}
    if pipeline.project:
        packed = yield from blocking(partial(pack_folder, pipeline.base_dir, f"{pipeline.name}.zip"))
        archives = {packed.name: packed}
    try:
        return (
            yield from submit_dag(
                session, pipeline.name, pipeline.jobs, agent_run_id, archives=archives, progress=progress
            )
        )
    except InvalidDag as exc:
        # Only the master could know: an unknown parent, or an id in use.
        place = pipeline.places.get((exc.job_id, exc.field))
        if place is None:
            raise
        raise InvalidPipeline(f"{place}: {exc}") from exc
