"""Finding a DAG again by its name, through the manifest its submit left in TitanStore."""

from __future__ import annotations

import json
from typing import Any

from titan_sdk.errors import CorruptData, NotFound
from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.submit import Submission, SubmittedJob
from titan_sdk.runtime import keys
from titan_sdk.wire import calls

__all__ = ["find_dag"]


def find_dag(name: str, run: str | None = None) -> Flow[Submission]:
    """The latest submission under that name, or the one called ``run``.

    Raises:
        NotFound: nobody submitted a DAG of that name through this SDK (foreign DAGs are followed by job ids).
    """
    if run is None:
        run = str((yield from _record(keys.dag_key(name), name))["run"])
    manifest = yield from _record(keys.dag_run_key(name, run), name)
    try:
        jobs = tuple(SubmittedJob(j["id"], j["nonce"], tuple(j["parents"])) for j in manifest["jobs"])
    except (KeyError, TypeError) as exc:
        raise CorruptData(f"the manifest of DAG {name!r}, run {run!r}, cannot be read: {manifest!r}") from exc
    return Submission(name, run, jobs)


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
