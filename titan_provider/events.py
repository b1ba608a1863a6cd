"""The event with which a trigger resumes its operator: one typed value, which travels as a plain dict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from titan_sdk import JobStatus

__all__ = ["JobEvent", "Outcome"]


class Outcome(StrEnum):
    """The reason why a trigger stopped waiting."""

    ENDED = "ended"
    """Every job is over; ``statuses`` says how."""
    TIMED_OUT = "timed_out"
    """The deadline passed; unless told otherwise, the jobs were cancelled."""
    ADMITTED = "admitted"
    """There is room for the job, which has not been submitted yet."""
    NOT_PLACED = "not_placed"
    """The job was still waiting for a worker at its placement deadline and was cancelled."""
    UNREACHABLE = "unreachable"
    """The master did not answer for longer than the budget; the jobs may still be running."""
    FAILED = "failed"
    """The trigger itself met something unexpected; ``message`` has type and text."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """The one event of a Titan trigger. It carries no result and no log: both are read where they are kept."""

    outcome: Outcome
    statuses: dict[str, JobStatus]
    """Last known state of every job waited for, by job id."""
    log_position: int = 0
    """The position to which the trigger copied the job's log, in the SDK's terms."""
    log_lines: int = 0
    """The number of lines that it copied."""
    message: str = ""
    """A sentence; empty when ``outcome`` is ENDED."""
    since: float = 0.0
    """Unix time at which the task began, where that has to survive a deferral."""
    master: str = ""
    """Address of the master that was asked; empty where that is the connection's."""

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON-able values, for ``TriggerEvent``."""
        plain = asdict(self) | {"v": 1, "outcome": str(self.outcome)}
        plain["statuses"] = {job_id: str(status) for job_id, status in self.statuses.items()}
        return plain

    @classmethod
    def from_dict(cls, event: Mapping[str, Any] | None) -> JobEvent:
        """The event behind a resumed task's ``event`` argument.

        :param event: made by :meth:`to_dict`
        :raises ValueError: it is not such a dict
        """
        if not isinstance(event, Mapping) or event.get("v") != 1:
            raise ValueError(f"a Titan trigger's event was expected, version 1, not {event!r}")
        return cls(
            outcome=Outcome(event["outcome"]),
            statuses={job_id: JobStatus(word) for job_id, word in event["statuses"].items()},
            log_position=int(event["log_position"]),
            log_lines=int(event["log_lines"]),
            message=str(event["message"]),
            since=float(event.get("since", 0.0)),
            master=str(event.get("master", "")),
        )
