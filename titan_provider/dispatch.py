"""Dispatched once: what a task remembers of its submission, and what a later try does with it. No I/O.

The record is kept where it outlives a try and a clear (``operators/memory.py``). What tells a try that follows a
crash from one that follows a clear:

* a crash leaves ``max_tries`` of the task instance and ``clear_number`` of the DAG run as they were;
* clearing a task that is not running sets ``max_tries`` to the tries so far plus its retries;
* clearing a running task leaves ``max_tries`` alone, but raises ``clear_number`` of its DAG run, as every clear does.

A DAG run that was deleted and made again under its old id has another start time. When another task of the run is
cleared, ``clear_number`` changes too. A crash at such a moment is then taken for a clear: the job is cancelled and
submitted anew rather than an old result returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from typing import Any

from titan_sdk import JobStatus

__all__ = ["Decision", "Record", "decide"]


class Decision(Enum):
    """What to do with the job that an earlier try recorded."""

    SUBMIT = "submit"
    """It is of no use any more: submit a new one."""
    ATTACH = "attach"
    """It belongs to this very task run and goes on, or has succeeded: wait for it, take its result."""
    CANCEL_AND_SUBMIT = "cancel and submit"
    """It still runs but a person asked for a new run."""


@dataclass(frozen=True, slots=True)
class Record:
    """One submission, as it is kept between tries."""

    job_id: str
    nonce: str
    max_tries: int
    clear_number: int
    run_started: str = ""
    submitted: bool = False
    """False until the master has confirmed the job."""
    master: str = ""
    """Address of the master that it is submitted to: the connection may name another one in a later try."""

    @classmethod
    def from_json(cls, value: object) -> Record | None:
        """The record, or None where there is none or it is of another version.

        :param value: what was kept
        """
        if not isinstance(value, Mapping) or value.get("v") != 1:
            return None
        return cls(**{field.name: value[field.name] for field in fields(cls) if field.name in value})

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"v": 1}

    def confirmed(self) -> Record:
        return replace(self, submitted=True)

    def same_run(self, other: Record) -> bool:
        """Whether no clear lies between the two tries.

        :param other: the record that this try would write
        """
        mine = (self.max_tries, self.clear_number, self.run_started)
        return mine == (other.max_tries, other.clear_number, other.run_started)


def decide(old: Record, new: Record, status: JobStatus) -> Decision:
    """What a try does that finds the record of an earlier one.

    :param old: the record found
    :param new: the one this try would write
    :param status: the old job's state by the master, now
    """
    goes_on = status in (JobStatus.PENDING, JobStatus.RUNNING)
    if old.same_run(new):
        return Decision.ATTACH if goes_on or status.is_success else Decision.SUBMIT
    return Decision.CANCEL_AND_SUBMIT if goes_on else Decision.SUBMIT
