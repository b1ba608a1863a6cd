"""The stored form of a job's line."""

from __future__ import annotations

import json

from titan_sdk.wire.jobs import JobLine

__all__ = ["dump_line", "load_line"]

_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dump_line(line: JobLine) -> str:
    """A stored form that gives back exactly this line; the wire's own would prefix every id."""
    return _dump([line.header, line.fields, line.priority, line.delay_ms, line.parents, line.affinity])


def load_line(job_id: str, text: str) -> JobLine:
    """The reverse of ``dump_line``."""
    header, fields, priority, delay_ms, parents, affinity = json.loads(text)
    return JobLine(job_id, header, tuple(fields), priority, delay_ms, tuple(parents), affinity)
