"""The states of a job and their meanings (protocol section 6)."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["JobStatus"]


class JobStatus(StrEnum):
    """A job's state in a real master's words. It equals the plain word."""

    is_terminal: bool
    """Whether the state is final: COMPLETED, DEAD or CANCELLED."""

    PENDING = "PENDING"
    """Queued, delayed, waiting for parents, or between two attempts."""
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    """Ended with exit code 0. For a service: its port answers."""
    DEAD = "DEAD"
    """Failed, with no attempt left."""
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    """The master has no such id (Titan answers ``NULL``), or its store is down."""

    def __init__(self, word: str) -> None:
        self.is_terminal = word in {"COMPLETED", "DEAD", "CANCELLED"}

    @classmethod
    def from_wire(cls, word: str) -> JobStatus:
        """The state of a reply. ``NULL`` and unknown words become ``UNKNOWN``, ``FAILED`` becomes ``DEAD``."""
        return _BY_WORD.get(word) or _BY_WORD.get(word.strip().upper(), cls.UNKNOWN)

    @property
    def is_success(self) -> bool:
        return self is JobStatus.COMPLETED


_BY_WORD = {str(status): status for status in JobStatus} | {"FAILED": JobStatus.DEAD}
