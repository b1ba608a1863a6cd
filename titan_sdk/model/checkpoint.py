"""A checkpoint in the master's store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from titan_sdk.errors import CorruptData, InvalidArgument
from titan_sdk.model.files import FileRef

__all__ = ["Checkpoint", "parse_checkpoint"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The checkpoint of jobs with one ``checkpoint_key``. ``fetch_artifact(checkpoint.file)`` fetches its file."""

    key: str
    file: FileRef | None
    """``None`` if only ``titan_job.state`` was stored so far."""
    step: float | str | None
    saved_at: float | None
    """Unix seconds of the worker's clock."""
    job_id: str | None
    """The job that has written the file."""
    state: Mapping[str, Any] = field(default_factory=dict)
    is_over: bool = False
    """Whether a job has succeeded with it, but ended before it could remove it. No job continues from it."""
    left: tuple[FileRef, ...] = ()
    """Files that a killed job may have left."""


def parse_checkpoint(key: str, text: str) -> Checkpoint:
    """The checkpoint behind a stored text.

    Raises:
        CorruptData: the text is not a checkpoint.
    """
    try:
        found = json.loads(text)
        if found["v"] != 1:
            raise InvalidArgument(f"its version is {found['v']!r}")
        ref = found.get("ref")
        return Checkpoint(
            key,
            None if ref is None else FileRef.from_json(ref),
            found.get("step"),
            found.get("saved_at"),
            found.get("job"),
            dict(found.get("state") or {}),
            found.get("done") is not None,
            tuple(_left(each) for each in found.get("stale") or ()),
        )
    except (ValueError, KeyError, TypeError, AttributeError, InvalidArgument) as exc:
        raise CorruptData(f"TitanStore holds {text[:80]!r} as checkpoint {key!r}: {exc!r}") from exc


def _left(found: Mapping[str, Any]) -> FileRef:
    # Its size and checksum may not be known yet.
    return FileRef(
        found["name"], found.get("size", 0), found.get("sha256", ""), parts=tuple(found.get("parts", ()))
    )
