"""Lists of a master's jobs, DAGs, services and artifacts, and the changes of its jobs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from titan_sdk.errors import InvalidArgument
from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.server import require
from titan_sdk.model.listing import JobChanges, ListPage
from titan_sdk.model.status import JobStatus
from titan_sdk.session import Session
from titan_sdk.wire import extended_calls
from titan_sdk.wire.extensions import MAX_WAIT_SECONDS, Fields
from titan_sdk.wire.listing import MAX_LISTED, ORDERS, List

__all__ = ["changes", "list_page"]

T = TypeVar("T")

_WORDS = [str(status) for status in JobStatus if status is not JobStatus.UNKNOWN]


def list_page(session: Session, request: List, read: Callable[[Fields], T]) -> Flow[ListPage[T]]:
    """A page of a list.

    Raises:
        InvalidArgument: the order, the limit or a filter is invalid. Nothing was sent.
        NotSupported: the master is a real one.
    """
    operation = f"list_{request.what}"
    _check(operation, request)
    yield from require(
        session,
        "list",
        operation,
        "cluster_stats() has what it tells: each worker's latest jobs, its services, and the length of the queue",
    )
    return (yield from ask(extended_calls.list_page(operation, request, read)))


def changes(session: Session, cursor: str | None, wait: float) -> Flow[JobChanges]:
    """The jobs that have changed since the cursor.

    Raises:
        InvalidArgument: ``wait`` is not a number of seconds. Nothing was sent.
        NotSupported: the master is a real one.
    """
    if type(wait) not in (int, float) or not wait >= 0:
        raise InvalidArgument(f"changes: wait {wait!r} is not a number of seconds")
    yield from require(session, "changes", "changes", "ask for the jobs' states (get_job_statuses)")
    seconds = min(wait, MAX_WAIT_SECONDS, session.config.timeout * 0.8)
    return (yield from ask(extended_calls.changes(cursor, seconds)))


def _check(operation: str, request: List) -> None:
    if request.order not in ORDERS[request.what]:
        known = ", ".join(ORDERS[request.what])
        raise InvalidArgument(f"{operation}: there is no order {request.order!r}; give one of {known}")
    if type(request.limit) is not int or not 1 <= request.limit <= MAX_LISTED:
        raise InvalidArgument(
            f"{operation}: limit {request.limit!r} is not a number from 1 to {MAX_LISTED:,}; ask for the rest with "
            "the page's cursor"
        )
    for state in request.states:
        if state not in _WORDS:
            raise InvalidArgument(
                f"{operation}: {state!r} is no state of a job; give some of {', '.join(_WORDS)}"
            )
    for name in ("tag", "dag", "run", "prefix", "contains", "cursor"):
        text = getattr(request, name)
        if text is not None and not isinstance(text, str):
            raise InvalidArgument(f"{operation}: {name} {text!r} is a {type(text).__name__}, not a text")
    for name in ("since", "until"):
        time = getattr(request, name)
        if time is not None and (type(time) not in (int, float) or not math.isfinite(time)):
            raise InvalidArgument(
                f"{operation}: {name} {time!r} is not a time in unix seconds; give datetime.timestamp()"
            )
