"""The payloads of LIST and CHANGES, both halves; docs/protocol.md specifies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from titan_sdk.errors import PeerProtocolError
from titan_sdk.model.listing import ListedArtifact, ListedDag, ListedJob
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.extensions import MAX_WAIT_SECONDS, Fields, read_object, write_object

__all__ = [
    "MAX_LISTED",
    "ORDERS",
    "Changes",
    "List",
    "read_artifact",
    "read_dag",
    "read_job",
    "write_item",
]

MAX_LISTED = 1000
"""The most items of a page."""
ORDERS: Mapping[str, tuple[str, ...]] = {
    "jobs": ("newest", "oldest", "started", "ended"),
    "services": ("newest", "oldest", "started", "ended"),
    "dags": ("newest", "oldest"),
    "artifacts": ("newest", "oldest"),
}
"""The lists, each with its orders."""


_DIGITS = 18
"""The largest number in a filter: every store can compare it."""


@dataclass(frozen=True, slots=True)
class List:
    """LIST 0x4C: a page of the master's items that match every filter.

    ``cursor`` is the end of the page before. Reply: ``{"items": [...], "cursor", "total", "changes"}``. A null cursor
    marks the last page. ``total`` is sent on request. ``changes`` is a cursor for CHANGES from before the list was made.
    """

    what: str
    order: str = "newest"
    limit: int = 100
    cursor: str | None = None
    count: bool = False
    states: tuple[str, ...] = ()
    tag: str | None = None
    dag: str | None = None
    run: str | None = None
    prefix: str | None = None
    contains: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def after(self) -> tuple[float, str] | None:
        """The content of the cursor: the last item's value in the order, and its number or name."""
        if self.cursor is None:
            return None
        key, colon, name = self.cursor.partition(":")
        number = name.isascii() and name.isdigit() and len(name) <= _DIGITS
        try:
            if colon and (number or self.what == "artifacts"):
                return float(key), name
        except ValueError:
            pass
        raise PeerProtocolError(f"cursor {self.cursor!r} was not given by a list")

    def encode(self) -> str:
        unset = List(self.what)
        names = (field.name for field in fields(self))
        more = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(unset, name)}
        return write_object(**{"what": self.what} | more)

    @classmethod
    def decode(cls, text: str) -> List:
        found = read_object(text)
        what, order = found.want("what", str), found.may("order", str) or "newest"
        if order not in ORDERS.get(what, ()):
            raise PeerProtocolError(f"there is no list of {what[:40]!r} ordered by {order[:40]!r}")
        limit = found.may("limit", int)
        request = cls(
            what,
            order,
            100 if limit is None else min(max(limit, 1), MAX_LISTED),
            found.may("cursor", str),
            bool(found.may("count", bool)),
            found.texts("states") if found.get("states") is not None else (),
            found.may("tag", str),
            found.may("dag", str),
            found.may("run", str),
            found.may("prefix", str),
            found.may("contains", str),
            found.may("since", float),
            found.may("until", float),
        )
        _ = request.after  # raises before anything is read
        return request


@dataclass(frozen=True, slots=True)
class Changes:
    """CHANGES 0x4D: the jobs that have changed since a cursor, answered at the first change or after ``seconds``.

    Reply: ``{"jobs": [...], "removed": [ids], "cursor", "again"}``. ``again`` means that the master no longer knows the
    changes since the cursor, so the client lists again. A request without a cursor gets the same answer.
    """

    cursor: str | None
    seconds: float

    def encode(self) -> str:
        return write_object(cursor=self.cursor, seconds=self.seconds)

    @classmethod
    def decode(cls, text: str) -> Changes:
        found = read_object(text)
        seconds = min(max(found.want("seconds", float), 0.0), MAX_WAIT_SECONDS)
        return cls(found.may("cursor", str), seconds)


# ---------------------------------------------------------------------- items


def write_item(item: ListedJob | ListedDag | ListedArtifact) -> dict[str, Any]:
    """An item as an object without its nulls."""
    return {name: value for name, value in asdict(item).items() if value is not None}


def read_job(found: Fields) -> ListedJob:
    """The job of an object."""
    return ListedJob(
        job_id=found.want("job_id", str),
        state=JobStatus.from_wire(found.want("state", str)),
        submitted_at=found.want("submitted_at", float),
        tag=found.may("tag", str),
        dag=found.may("dag", str),
        run=found.may("run", str),
        service=found.may("service", str),
        attempts=found.may("attempts", int) or 0,
        worker=found.may("worker", str),
        exit_code=found.may("exit_code", int),
        reason=found.may("reason", str),
        started_at=found.may("started_at", float),
        ended_at=found.may("ended_at", float),
    )


def read_dag(found: Fields) -> ListedDag:
    """The DAG of an object."""
    states = Fields(found.want("states", dict))
    return ListedDag(
        found.want("name", str),
        found.want("run", str),
        {JobStatus.from_wire(word): states.want(word, int) for word in states},
        found.want("submitted_at", float),
        found.may("started_at", float),
        found.may("ended_at", float),
    )


def read_artifact(found: Fields) -> ListedArtifact:
    """The artifact of an object."""
    return ListedArtifact(found.want("name", str), found.want("size", int), found.want("modified_at", float))
