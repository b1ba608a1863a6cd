"""Everything that can be written to a store, as values, and how that fails. A store applies them; the journal decides when.

Changes of a job name it by its number: an id may be used again, a number never is. A change of a job that the
store does not know changes nothing.
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
    """A submission with its payloads; earlier, finished jobs of the same ids give way, their history stays."""

    jobs: tuple[NewJob, ...]


# ---------------------------------------------------------------------- a job's life


@dataclass(frozen=True, slots=True)
class SetRunning:
    """A run was launched. The status of a live service stays what it is."""

    seq: int
    worker: str
    run: str
    handle: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True)
class SetPlaced:
    """Where the job's current run began, and when; for engines that choose the place themselves."""

    seq: int
    worker: str
    at: float


@dataclass(frozen=True, slots=True)
class SetPending:
    """Queued again; nothing is left of its run."""

    seq: int
    attempts: int
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class SetEnded:
    """Unless its run is ``gone``, the handle stays: a cancelled job's process is ended after this is stored."""

    seq: int
    status: JobStatus
    exit_code: int | None
    reason: str | None
    at: float
    gone: bool = False


@dataclass(frozen=True, slots=True)
class SetGone:
    """No process of that run is left; a later run of the job is another matter."""

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
    """Remove finished jobs, id and number each."""

    jobs: tuple[tuple[str, int], ...]


# ---------------------------------------------------------------------- values and sets


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Swap:
    """Set (or, with ``None``, delete) a value if it is as expected; ``None`` expects it absent. Whether it was."""

    key: str
    expected: str | None
    value: str | None


@dataclass(frozen=True, slots=True)
class AddMember:
    """Whether the member is new."""

    key: str
    member: str


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """Whether the member was there. A set without members is none."""

    key: str
    member: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Whether there was a value or a set."""

    key: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Remove a key after some time. Whether it is there."""

    key: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Remove what has expired; how many keys. Reading never shows them, so this only frees room."""


# ---------------------------------------------------------------------- requests that may arrive twice

OUT_OF_DATE = "OUT_OF_DATE"
"""The result of a request after which a later one of its channel, or another one of its number, was carried out."""
REQUEST_SECONDS = 900.0
"""How long the last request of a channel is remembered that nobody uses. A client gives up after a minute."""


@dataclass(frozen=True, slots=True)
class Once:
    """A change, unless that request was carried out before: then its result is that of the first time."""

    request: RequestId
    change: Put | Swap | AddMember | Delete | Expire


@dataclass(frozen=True, slots=True)
class Begin:
    """A request begins that is no change of values. Nothing where it is new; else its reply, ``""`` where that is not
    known, or ``OUT_OF_DATE``.
    """

    request: RequestId


@dataclass(frozen=True, slots=True)
class Remember:
    """The reply to a request that was begun."""

    request: RequestId
    reply: str


# ---------------------------------------------------------------------- logs, where the store keeps them


@dataclass(frozen=True, slots=True)
class AddNote:
    """A line of the master's own in a job's log, of which ``cap`` bytes are kept."""

    job_id: str
    line: bytes
    cap: int


@dataclass(frozen=True, slots=True)
class AppendLog:
    """See ``LogStore.append``, which is also what it results in."""

    job_id: str
    run: str
    offset: int
    data: bytes
    cap: int


ValueChange = Put | Swap | AddMember | RemoveMember | Delete | Expire | Sweep
Operation = ValueChange | Once | Begin | Remember | AddNote | AppendLog
"""What each store carries out in its own way, and has a result."""
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


# ---------------------------------------------------------------------- what keeps a change from being stored


class StoreFailed(Exception):
    """Something could not be written or read; one sentence. The cause is the backend's own exception."""


class Unstorable(StoreFailed):
    """What was to be written or read is no text: half of a surrogate pair, which JSON can write and UTF-8 cannot hold."""


class Unavailable(StoreFailed):
    """Nothing can be written or read at the moment, whatever it is; nothing was done."""


class InDoubt(Unavailable):
    """It was sent, and no reply came: it may have been done."""


class Lost(StoreFailed):
    """This master must not write any more; nothing was done."""
