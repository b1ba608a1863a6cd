"""TitanStore operations that take more than one exchange."""

from __future__ import annotations

from titan_sdk.errors import InvalidArgument
from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.server import server_info
from titan_sdk.session import Session
from titan_sdk.wire import calls

__all__ = ["store_get", "store_put", "store_sadd", "store_smembers"]


def store_put(key: str, value: str) -> Flow[None]:
    """Set one key. A real master says OK even while its store is down (hazard 12)."""
    _check_text("store_put", "key", key)
    _check_text("store_put", "value", value)
    yield from ask(calls.kv_set(key, value))


def store_get(key: str) -> Flow[str | None]:
    """The value, or ``None`` when the key is absent."""
    _check_text("store_get", "key", key)
    return (yield from ask(calls.kv_get(key)))


def store_sadd(session: Session, key: str, member: str) -> Flow[int]:
    """1 when the member is new, 0 when it was there.

    A real master always answers 0, so there the members are read first; two clients that add the same member
    at the same instant may then both read 1.
    """
    _check_text("store_sadd", "key", key)
    _check_text("store_sadd", "member", member)
    info = yield from server_info(session)
    if info.has("sadd_reply"):
        return (yield from ask(calls.kv_sadd(key, member)))
    before = yield from ask(calls.kv_smembers(key))
    yield from ask(calls.kv_sadd(key, member))
    return int(member not in before)


def store_smembers(key: str) -> Flow[list[str]]:
    """All members, sorted: a real master gives them in no order."""
    _check_text("store_smembers", "key", key)
    return sorted((yield from ask(calls.kv_smembers(key))))


def _check_text(operation: str, what: str, text: object) -> None:
    if not isinstance(text, str):
        raise InvalidArgument(
            f"{operation}: the {what} {text!r} is a {type(text).__name__}, not a text; convert it with str() or json.dumps()"
        )
