"""Values over the packet limit: stored in parts, behind a reference under their own key.

The reference is written last, so a reader sees the old value or the whole new one. The names of the parts differ with
every write, so no write overwrites another's parts.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import replace
from typing import Any

from titan_sdk.errors import CorruptData, PayloadTooLarge
from titan_sdk.flows import confirmed_writes
from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.server import server_info
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls
from titan_sdk.wire.exactly_once import LARGEST_HEAD
from titan_sdk.wire.fields import PARTS_MARK, decode_value, encode_key, encode_value
from titan_sdk.wire.frames import MAX_PAYLOAD

__all__ = ["MAX_VALUE", "drop_parts", "get", "is_large", "put"]

MAX_VALUE = 512 * 1024 * 1024
"""The largest value, in characters. Its writer and its readers hold it in memory whole."""
_PART = 8 * 1024 * 1024


def is_large(key: str, value: str) -> bool:
    """Whether a value needs more than one frame."""
    # The stored form is never shorter, so most values need no encoding here.
    room = MAX_PAYLOAD - len(encode_key(key)) - 1 - LARGEST_HEAD
    return len(value) > room or (len(value) * 12 > room and len(encode_value(value)) > room)


def put(session: Session, key: str, value: str) -> Flow[None]:
    """Store the parts, then the reference, then remove the parts of the earlier value.

    Raises:
        PayloadTooLarge: over ``MAX_VALUE``; nothing was sent.
    """
    stored = encode_value(value)
    if len(stored) > MAX_VALUE:
        raise PayloadTooLarge(
            f"store_put {key!r}", len(stored), MAX_VALUE, "put the bytes into a file with upload_file"
        )
    old = yield from ask(calls.kv_get(key))
    write = secrets.token_hex(8)
    count = 0
    for start in range(0, len(stored), _PART):
        name, part = _part_key(key, write, count), "=" + stored[start : start + _PART]
        # No other client writes under this name.
        call = replace(calls.kv_set_raw(name, part), repeatable=True)
        yield from confirmed_writes.write(session, call, name, part)
        count += 1
    digest = hashlib.sha256(stored.encode("ascii")).hexdigest()
    fields = {"parts": count, "write": write, "characters": len(stored), "sha256": digest}
    reference = PARTS_MARK + json.dumps(fields)
    yield from confirmed_writes.write(session, calls.kv_set_raw(key, reference), key, reference)
    if old is not None and old.startswith(PARTS_MARK):
        yield from drop_parts(session, key, old)


def get(key: str, reference: str) -> Flow[str]:
    """The value behind a reference.

    Raises:
        CorruptData: a part is missing, or the checksum does not match.
    """
    fields = _read(key, reference)
    parts: list[str] = []
    for index in range(fields["parts"]):
        part = yield from ask(calls.kv_get(_part_key(key, fields["write"], index)))
        if not part:
            raise CorruptData(
                f"store_get {key!r}: part {index + 1} of {fields['parts']} is gone from TitanStore"
            )
        parts.append(part[1:])
    stored = "".join(parts)
    if hashlib.sha256(stored.encode("utf-8", "replace")).hexdigest() != fields["sha256"]:
        raise CorruptData(
            f"store_get {key!r}: the {len(stored):,} characters read are not those that were written"
        )
    return decode_value(stored)


def drop_parts(session: Session, key: str, reference: str) -> Flow[None]:
    """Remove parts without a reference. A real master cannot delete, so there they become empty."""
    info = yield from server_info(session)
    fields = _read(key, reference)
    for index in range(fields["parts"]):
        part = _part_key(key, fields["write"], index)
        if "store_ops" in info.features:
            yield from ask(extended_calls.store_delete(part))
        else:
            yield from ask(replace(calls.kv_set_raw(part, ""), repeatable=True))


def _part_key(key: str, write: str, index: int) -> str:
    return f"{key}~part~{write}~{index}"


def _read(key: str, reference: str) -> dict[str, Any]:
    try:
        fields = json.loads(reference[len(PARTS_MARK) :])
        return {
            "parts": int(fields["parts"]),
            "write": str(fields["write"]),
            "sha256": str(fields["sha256"]),
        }
    except (ValueError, KeyError, TypeError) as exc:
        raise CorruptData(
            f"store_get {key!r}: TitanStore holds {reference[:80]!r}, a reference that cannot be read"
        ) from exc
