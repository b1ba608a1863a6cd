"""Job ids that a person can trace back to a task, unique for every submission."""

from __future__ import annotations

import hashlib
import re
import secrets

__all__ = ["make_job_id"]

# Titan's ids allow 200 characters, and `DAG-` is put in front of them; logs and dashboards are easier to
# read with less. The unique part is never cut.
_MAX = 180
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def make_job_id(dag_id: str, task_id: str, run_id: str, map_index: int = -1, try_number: int = 1) -> str:
    """A new id for one submission of one task instance: ``dag.task.run.m3.t1-<10 hex digits>``.

    Never the same twice: an id that was cancelled, or belongs to a deleted DAG run, must not be met again.

    :param map_index: -1 for a task that is not mapped
    """
    readable = [dag_id, task_id, run_id]
    unique = hashlib.sha256(
        "\0".join([*readable, str(map_index), secrets.token_hex(8)]).encode()
    ).hexdigest()[:10]
    tail = f".m{map_index}" if map_index >= 0 else ""
    tail += f".t{try_number}-{unique}"
    head = ".".join(_UNSAFE.sub("_", part).strip("_.-") or "_" for part in readable)
    return head[: _MAX - len(tail)] + tail
