"""TitanStore operations that take more than one exchange."""

from __future__ import annotations

import math
from dataclasses import replace

from titan_sdk.errors import InvalidArgument
from titan_sdk.flows import confirmed_writes, large_values
from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.server import require, server_info
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls
from titan_sdk.wire.fields import PARTS_MARK

__all__ = [
    "store_delete",
    "store_expire",
    "store_get",
    "store_keys",
    "store_put",
    "store_sadd",
    "store_smembers",
    "store_swap",
]


def store_put(session: Session, key: str, value: str) -> Flow[None]:
    """Set one key.

    Raises:
        StoreUnavailable: a real master's store does not keep the value.
    """
    _check_text("store_put", "key", key)
    _check_text("store_put", "value", value)
    if large_values.is_large(key, value):
        yield from large_values.put(session, key, value)
    else:
        yield from confirmed_writes.write(session, calls.kv_set(key, value), key, value)


def store_get(key: str) -> Flow[str | None]:
    """The value, or ``None`` when the key is absent."""
    _check_text("store_get", "key", key)
    value = yield from ask(calls.kv_get(key))
    if value is not None and value.startswith(PARTS_MARK):
        return (yield from large_values.get(key, value))
    return value


def store_delete(session: Session, key: str) -> Flow[bool]:
    """Remove a value with its parts, or a set. Returns whether the key existed.

    Raises:
        NotSupported: the master is a real one, which cannot delete.
    """
    _check_text("store_delete", "key", key)
    yield from require(session, "store_ops", "store_delete", "overwrite the value with an empty text instead")
    value = yield from ask(calls.kv_get(key))
    deleted = yield from ask(extended_calls.store_delete(key))
    if value is not None and value.startswith(PARTS_MARK):
        yield from large_values.drop_parts(session, key, value)
    return deleted


def store_keys(session: Session, prefix: str = "") -> Flow[list[str]]:
    """The keys of values and sets with the prefix, sorted.

    Raises:
        NotSupported: the master is a real one, which cannot list.
    """
    _check_text("store_keys", "prefix", prefix)
    yield from require(session, "store_ops", "store_keys", "keep the names in a set of your own (store_sadd)")
    keys: list[str] = []
    more = True
    while more:
        page, more = yield from ask(extended_calls.store_keys(prefix, keys[-1] if keys else ""))
        keys += page
    return keys


def store_expire(session: Session, key: str, seconds: float) -> Flow[bool]:
    """Delete the key after ``seconds``, unless it is written before. Returns whether the key exists.

    Raises:
        NotSupported: the master is a real one, which keeps everything.
    """
    _check_text("store_expire", "key", key)
    if type(seconds) not in (int, float) or not 0 < seconds < math.inf:
        raise InvalidArgument(
            f"store_expire: seconds {seconds!r} is not a number above 0; store_delete deletes at once"
        )
    yield from require(
        session, "store_ops", "store_expire", "overwrite the value when it is not needed any more"
    )
    return (yield from ask(extended_calls.store_expire(key, seconds)))


def store_swap(session: Session, key: str, expected: str | None, value: str | None) -> Flow[bool]:
    """Set a value if the key holds ``expected`` (``None``: is absent), atomically. ``value=None`` deletes it.

    Raises:
        NotSupported: the master is a real one, which has no such operation.
    """
    _check_text("store_swap", "key", key)
    for what, text in (("expected value", expected), ("value", value)):
        if text is not None:
            _check_text("store_swap", what, text)
    yield from require(session, "store_ops", "store_swap", "let one client alone write the key")
    return (yield from ask(extended_calls.store_swap(key, expected, value)))


def store_sadd(session: Session, key: str, member: str) -> Flow[int]:
    """Add a member to a set. Returns 1 if the member is new, 0 if it was there.

    A real master always answers 0, so the members are read before and after. Two clients that add the same member at the
    same instant may both get 1. The second read confirms the write, as the master answers the same while its store is
    down.

    Raises:
        StoreUnavailable: a real master's store does not keep the member.
    """
    _check_text("store_sadd", "key", key)
    _check_text("store_sadd", "member", member)
    info = yield from server_info(session)
    if "sadd_reply" in info.features:
        return (yield from ask(replace(calls.kv_sadd(key, member), repeatable=False)))
    if member in (yield from ask(calls.kv_smembers(key))):
        return 0
    call = calls.kv_sadd(key, member)
    yield from ask(call)
    if member not in (yield from ask(calls.kv_smembers(key))):
        raise confirmed_writes.store_is_away(call.name)
    return 1


def store_smembers(key: str) -> Flow[list[str]]:
    """All members, sorted. A real master returns them in no order."""
    _check_text("store_smembers", "key", key)
    return sorted((yield from ask(calls.kv_smembers(key))))


def _check_text(operation: str, what: str, text: object) -> None:
    if not isinstance(text, str):
        raise InvalidArgument(
            f"{operation}: the {what} {text!r} is a {type(text).__name__}, not a text; convert it with str() or json.dumps()"
        )
