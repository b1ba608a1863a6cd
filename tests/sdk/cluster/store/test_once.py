"""A request is carried out once however often it arrives: on every store, over restarts, and through the port."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Peer, Reply
from tests.sdk.cluster.store.opening import Open
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import (
    OUT_OF_DATE,
    REQUEST_SECONDS,
    AddMember,
    Begin,
    Change,
    Delete,
    Expire,
    Once,
    Put,
    Remember,
    StoreFailed,
    Swap,
    Sweep,
)
from titan_sdk.cluster.store.sqlite import SqliteStore
from titan_sdk.wire import exactly_once
from titan_sdk.wire.exactly_once import RequestId

# Slow: Masters are killed and started again, on both stores.
pytestmark = pytest.mark.slow


def request(number: int, mark: str = "0" * 8, channel: str = "c" * 16) -> RequestId:
    return RequestId(channel, number, mark)


CHANGES = [
    (Put("k", "first"), None, Put("k", "later"), "later"),
    (Swap("k", None, "first"), True, Put("k", "later"), "later"),
    (Swap("k", "other", "first"), False, Put("k", "other"), "other"),
    (AddMember("k", "m"), True, Delete("k"), None),
    (Delete("k"), False, Put("k", "later"), "later"),
    (Expire("k", 0.001), False, Put("k", "later"), "later"),
]


@pytest.mark.parametrize(("change", "result", "between", "left"), CHANGES)
async def test_a_repeated_change_has_its_first_result_and_no_second_effect(
    open_store: Open, change: Put, result: object, between: Change, left: str | None
) -> None:
    store = await open_store()
    first = await store.journal.write(Once(request(7), change))
    assert bool(first) == bool(result)
    await store.journal.write(between)
    for _ in range(2):
        assert await store.journal.write(Once(request(7), change)) == first
        assert (await store.get("k"), await store.members("k")) == (left, [])
        await store.close()
        store = await open_store()  # the next master knows it, too
    await store.close()


async def test_both_copies_in_one_transaction(store: Store) -> None:
    writes = [store.journal.write(Once(request(1), AddMember("s", "m"))) for _ in range(3)]
    assert [bool(await one) for one in writes] == [True] * 3
    assert not await store.journal.write(Once(request(2), AddMember("s", "m")))


async def test_a_copy_that_comes_too_late_changes_nothing(store: Store) -> None:
    await store.journal.write(Once(request(2), Put("k", "second")))
    assert await store.journal.write(Once(request(1), Put("k", "first"))) == OUT_OF_DATE
    assert await store.journal.write(Begin(request(1))) == OUT_OF_DATE
    await store.journal.write(Remember(request(1), "x"))
    assert await store.get("k") == "second"
    await store.journal.write(Once(request(1, channel="d" * 16), Put("k", "another client's")))
    assert await store.get("k") == "another client's"


async def test_two_requests_of_one_number_are_told_apart(store: Store) -> None:
    """Of a process that was copied, say: neither is answered with the other's result."""
    await store.journal.write(Once(request(1, "a" * 8), Put("k", "a")))
    assert await store.journal.write(Once(request(1, "b" * 8), Put("k", "b"))) == OUT_OF_DATE
    assert await store.get("k") == "a"


async def test_what_was_not_stored_is_not_remembered(store: Store) -> None:
    half = "\ud83d"
    with pytest.raises(StoreFailed):
        await store.journal.write(Once(request(1), Put("k", half)))
    await store.journal.write(Once(request(1), Put("k", "whole")))
    assert await store.get("k") == "whole"


async def test_another_request_is_noted_before_and_after(open_store: Open) -> None:
    store = await open_store()
    assert not isinstance(await store.journal.write(Begin(request(1))), str)
    assert await store.journal.write(Begin(request(1))) == ""
    await store.close()
    store = await open_store()
    assert await store.journal.write(Begin(request(1))) == "", "nobody knows what became of it"
    await store.journal.write(Remember(request(1), 'a "reply", é'))
    assert await store.journal.write(Begin(request(1))) == 'a "reply", é'
    await store.close()


async def test_channels_that_nobody_uses_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if not isinstance(store, SqliteStore):
        pytest.skip("Redis removes them itself")
    for number in range(50):
        await store.journal.write(Once(request(number), Put("k", str(number))))
        await store.journal.write(Once(request(0, channel=f"{number:016x}"), Put("k", str(number))))
    count = "SELECT count(*) FROM requests"
    assert store.db.execute(count).fetchone() == (51,), "one row for each channel"
    now = store.clock.now()
    monkeypatch.setattr(store.clock, "now", lambda: now + REQUEST_SECONDS + 1)
    await store.journal.write(Once(request(50), Put("k", "50")))
    await store.journal.write(Sweep())
    assert store.db.execute(count).fetchone() == (1,)


def ask(peer: Peer, number: int, opcode: int, payload: str) -> Reply:
    return peer.ask(0x4A, exactly_once.encode(request(number), opcode, payload.encode()))


def test_through_the_port_and_a_kill(tmp_path: Path) -> None:
    numbers = itertools.count(1)
    swap = json.dumps({"key": "k", "expected": None, "value": "mine"})
    asked = [
        (0x60, "k|hello", "OK"),
        (0x62, "s|m", "1"),
        (0x46, json.dumps({"key": "k"}), '{"deleted":true}'),
        (0x48, swap, '{"swapped":true}'),
        (0x49, json.dumps({"key": "k", "seconds": 3600}), '{"set":true}'),
        (0x57, "script.py|cHJpbnQoMSk=", "DEPLOY_SUCCESS"),
        (0x56, "DAG-unknown", "NOT_FOUND"),
    ]
    master = MasterProcess(tmp_path / "data")
    peer = master.start()
    try:
        for opcode, payload, reply in asked:
            number = next(numbers)
            assert ask(peer, number, opcode, payload).text == reply
            assert ask(peer, number, opcode, payload).text == reply
            master.kill()
            peer = master.start()
            assert ask(peer, number, opcode, payload).text == reply, opcode
        late = ask(peer, 1, 0x60, "k|hello")
        assert (late.opcode, late.text) == (0x51, exactly_once.OUT_OF_DATE)
        assert peer.ask(0x61, "k").text == "mine"
    finally:
        master.close()


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "expected an id"),
        (b"x-1-2|96\nk|v", "expected an id"),
        (exactly_once.encode(request(1), 300, b"k|v"), "expected an id"),
        (exactly_once.encode(request(1), 0x60, b"no pipe"), "Invalid Format"),
        (exactly_once.encode(request(1), 0x04, b"j|RUN_PAYLOAD|"), "takes no id"),
        (exactly_once.encode(request(1), 0x4A, exactly_once.encode(request(1), 0x60, b"k|v")), "takes no id"),
        (exactly_once.encode(request(1), 0x61, b"k"), "takes no id"),
    ],
)
def test_what_is_no_such_request_is_refused(peer: Peer, payload: bytes, why: str) -> None:
    reply = peer.ask(0x4A, payload)
    assert reply.opcode == 0x51
    assert reply.text.startswith("ERROR: ")
    assert why in reply.text
