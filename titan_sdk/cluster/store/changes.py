"""The changes of a store as values, and the errors of a write. The journal decides when a store applies a change.

A change of a job names the job's number: an id may be used again, a number never is. A change of an unknown job has no
effect.
"""

from __future__ import annotations

from dataclasses import dataclass

from titan_sdk.cluster.store.rows import NewJob
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.exactly_once import RequestId

__all__ = [
    "OUT_OF_DATE",
    "REQUEST_SECONDS",
    "AddHistory",
    "AddMember",
    "AddNote",
    "AppendLog",
    "Begin",
    "Change",
    "Delete",
    "Expire",
    "ForgetJobs",
    "InDoubt",
    "InsertJobs",
    "Lost",
    "Once",
    "Operation",
    "Put",
    "Remember",
    "RemoveMember",
    "SetEnded",
    "SetGone",
    "SetPending",
    "SetPlaced",
    "SetRunning",
    "SetService",
    "StoreFailed",
    "Swap",
    "Sweep",
    "Unavailable",
    "Unstorable",
    "ValueChange",
]


# ---------------------------------------------------------------------- submissions


@dataclass(frozen=True, slots=True)
class InsertJobs:
    """A submission with its payloads. It replaces finished jobs of the same ids; their history stays."""

    jobs: tuple[NewJob, ...]


# ---------------------------------------------------------------------- a job's life


@dataclass(frozen=True, slots=True)
class SetRunning:
    """A run was launched. A live service keeps its status."""

    seq: int
    worker: str
    run: str
    handle: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True)
class SetPlaced:
    """The place and start of the current run, from an engine that chooses the place itself."""

    seq: int
    worker: str
    at: float


@dataclass(frozen=True, slots=True)
class SetPending:
    """The job is queued again; its run has ended."""

    seq: int
    attempts: int
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class SetEnded:
    """The job has ended. The handle stays unless the run is ``gone``: a cancelled job's process ends after this is stored."""

    seq: int
    status: JobStatus
    exit_code: int | None
    reason: str | None
    at: float
    gone: bool = False


@dataclass(frozen=True, slots=True)
class SetGone:
    """No process of that run is left. It does not affect a later run of the job."""

    seq: int
    run: str


@dataclass(frozen=True, slots=True)
class SetService:
    """``state`` is one of ``rows.ServiceState``."""

    seq: int
    state: int


@dataclass(frozen=True, slots=True)
class AddHistory:
    job_id: str
    seq: int
    at: float
    event: str
    detail: str


@dataclass(frozen=True, slots=True)
class ForgetJobs:
    """Remove finished jobs, each by its id and number."""

    jobs: tuple[tuple[str, int], ...]


# ---------------------------------------------------------------------- values and sets


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Swap:
    """Set (with ``None``: delete) a value if it is as expected (``None``: absent). Results in whether it was."""

    key: str
    expected: str | None
    value: str | None


@dataclass(frozen=True, slots=True)
class AddMember:
    """Add a member. Results in whether it is new."""

    key: str
    member: str


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """Remove a member. Results in whether it was there. An empty set does not exist."""

    key: str
    member: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a value or a set. Results in whether it existed."""

    key: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Remove a key after some time. Results in whether the key exists."""

    key: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Remove expired keys. Results in their number. Reads never show them, so this only frees room."""


# ---------------------------------------------------------------------- requests that may arrive twice

OUT_OF_DATE = "OUT_OF_DATE"
"""The result of a request if a later one of its channel, or another one with its number, was already carried out."""
REQUEST_SECONDS = 900.0
"""Seconds for which the last request of an idle channel is remembered. Clients give up after a minute."""


@dataclass(frozen=True, slots=True)
class Once:
    """A change that is carried out once per request. A copy has the first result."""

    request: RequestId
    change: Put | Swap | AddMember | Delete | Expire


@dataclass(frozen=True, slots=True)
class Begin:
    """The begin of a request that is not a change of values. Results in ``None`` for a new request, else in its reply
    (``""`` if that is unknown), or ``OUT_OF_DATE``.
    """

    request: RequestId


@dataclass(frozen=True, slots=True)
class Remember:
    """The reply to a request that has begun."""

    request: RequestId
    reply: str


# ---------------------------------------------------------------------- logs, where the store keeps them


@dataclass(frozen=True, slots=True)
class AddNote:
    """A line of the master in a job's log, which keeps ``cap`` bytes."""

    job_id: str
    line: bytes
    cap: int


@dataclass(frozen=True, slots=True)
class AppendLog:
    """``LogStore.append``, with the same result."""

    job_id: str
    run: str
    offset: int
    data: bytes
    cap: int


ValueChange = Put | Swap | AddMember | RemoveMember | Delete | Expire | Sweep
Operation = ValueChange | Once | Begin | Remember | AddNote | AppendLog
"""The changes with a result, which each store carries out in its own way."""
Change = (
    InsertJobs
    | SetRunning
    | SetPending
    | SetPlaced
    | SetEnded
    | SetGone
    | SetService
    | AddHistory
    | ForgetJobs
    | Operation
)


# ---------------------------------------------------------------------- errors


class StoreFailed(Exception):
    """A write or read failed; one sentence. The cause is the backend's own exception."""


class Unstorable(StoreFailed):
    """The text has a lone surrogate, which JSON can write and UTF-8 cannot hold."""


class Unavailable(StoreFailed):
    """The store can neither be written nor read at the moment. Nothing was done."""


class InDoubt(Unavailable):
    """The commit was sent, and no reply came. It may have been done."""


class Lost(StoreFailed):
    """This master must no longer write. Nothing was done."""
