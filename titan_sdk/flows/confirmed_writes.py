"""Confirmed writes to TitanStore. A real master answers OK even while its store is down (hazard 12)."""

from __future__ import annotations

from titan_sdk.errors import ConnectionLost, StoreUnavailable, TimedOut
from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.server import server_info
from titan_sdk.session import Session
from titan_sdk.wire import calls
from titan_sdk.wire.calls import Call

__all__ = ["put_own", "store_is_away", "write"]


def write(session: Session, call: Call[str], key: str, value: str) -> Flow[None]:
    """Write a value, and read it back if the master's ``OK`` proves nothing.

    Raises:
        StoreUnavailable: the value is not there. ``outcome_unknown`` if another value is.
    """
    info = yield from server_info(session)
    yield from ask(call)
    if info.kind == "bundled":
        return
    seen = yield from ask(calls.kv_get(key))
    if seen is None:
        raise store_is_away(call.name)
    if seen != value:
        lost = StoreUnavailable(
            f"{call.name}: another value reads back: the store behind the master was away and has lost this one, or "
            "somebody else has written the key at the same moment; read it before you write again",
            operation=call.name,
        )
        lost.outcome_unknown = True
        raise lost


def put_own(key: str, value: str) -> Flow[None]:
    """Set a key to a value that means the same from any writer. So after a lost reply, reading it back is a proof.

    Raises:
        ConnectionLost, TimedOut: the value is not there, but may still arrive.
    """
    try:
        yield from ask(calls.kv_set(key, value))
    except (ConnectionLost, TimedOut) as exc:
        if (yield from ask(calls.kv_get(key))) != value:
            raise exc


def store_is_away(operation: str) -> StoreUnavailable:
    """The error for a store that keeps nothing."""
    return StoreUnavailable(
        f"{operation}: the store behind the master does not keep values; is it running? "
        "`titan doctor` tells more",
        operation=operation,
    )
