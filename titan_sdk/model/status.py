"""The states of a job (protocol section 6) and what each of them means."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["JobStatus"]


class JobStatus(StrEnum):
    """A job's state in the words of a real master; compares equal to the plain word."""

    is_terminal: bool
    """No further change by itself: COMPLETED, DEAD or CANCELLED."""

    PENDING = "PENDING"
    """Queued, delayed, or waiting for parents; also between two attempts."""
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
        """The state behind a reply; ``NULL`` and words from the future are ``UNKNOWN``, ``FAILED`` is ``DEAD``."""
        return _BY_WORD.get(word) or _BY_WORD.get(word.strip().upper(), cls.UNKNOWN)

    @property
    def is_success(self) -> bool:
        return self is JobStatus.COMPLETED


_BY_WORD = {str(status): status for status in JobStatus} | {"FAILED": JobStatus.DEAD}
