from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.sdk.cluster.store.test_store import TEXTS
from titan_sdk.cluster.store.changes import AddMember, Expire, Put
from titan_sdk.cluster.store.sqlite import SqliteStore
from titan_sdk.cluster.store.sqlite.schema import SCHEMA_VERSION, open_database
from titan_sdk.errors import TitanError


def test_a_damaged_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"this is no database, but it is long enough to have been one" * 100)
    with pytest.raises(TitanError, match=r"cannot open the master's state in .*move its folder away"):
        open_database(path)


def test_a_newer_format_is_refused_with_a_sentence(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(TitanError, match=f"has format {SCHEMA_VERSION + 1}; this version reads format"):
        open_database(tmp_path / "db")


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
async def test_a_value_at_hand_is_the_one_that_is_read(tmp_path: Path, text: str) -> None:
    store = SqliteStore(tmp_path / "db", asyncio.get_running_loop())
    size = len(text.encode())
    assert store.value_at_hand(text, size) is None
    await store.journal.write(Put(text, text))
    assert store.value_at_hand(text, size) == text
    assert size == 0 or store.value_at_hand(text, size - 1) is False
    await store.journal.write(Expire(text, 0.001))
    while await store.get(text) is not None:  # noqa: ASYNC110 - time passes in the store
        await asyncio.sleep(0.005)
    assert store.value_at_hand(text, size) is None
    await store.close()


async def test_a_range_of_keys_is_found_without_reading_the_others(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db", asyncio.get_running_loop())
    for number in range(2000):
        store.journal.write(Put(f"k{number:04}", "v"))
        store.journal.write(AddMember(f"s{number:04}", "m"))
    await store.journal.write()
    steps = list[int]()
    store.db.set_progress_handler(
        lambda: steps.append(1), 1
    )  # called with every instruction of SQLite's machine
    assert await store.keys("k", "k1000", 2) == ["k1001", "k1002"]
    assert await store.keys("s1999", "", -1) == ["s1999"]
    assert await store.keys("l", "", -1) == []
    assert await store.manifests_before(2**40) == []
    store.db.set_progress_handler(None, 1)
    assert 10 < len(steps) < 500
    await store.close()
