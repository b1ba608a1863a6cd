from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from titan_sdk.cluster.store.changes import AddMember, InsertJobs, Put, SetEnded, SetGone, SetRunning
from titan_sdk.cluster.store.rows import NewJob
from titan_sdk.cluster.store.sqlite import SqliteStore
from titan_sdk.cluster.store.sqlite.schema import SCHEMA_VERSION, open_database
from titan_sdk.errors import TitanError
from titan_sdk.model.status import JobStatus

TEXTS = ["", "NULL", "ERROR: x", "a|b\nc", "héllo 日本語 😀", "nul\0inside", " edges ", "x" * 3_000_000]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "db", asyncio.get_running_loop())
    yield opened
    await opened.close()


async def reopen(store: SqliteStore, path: Path) -> SqliteStore:
    await store.close()
    return SqliteStore(path, asyncio.get_running_loop())


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
async def test_any_text_survives_as_key_value_and_member(store: SqliteStore, text: str) -> None:
    await store.journal.write(Put("value", text))
    await store.journal.write(Put(text, "key"))
    assert await store.journal.write(AddMember("set", text))
    assert await store.get("value") == text
    assert await store.get(text) == "key"
    assert await store.members("set") == [text]


async def test_a_member_is_new_once_and_members_keep_their_order(store: SqliteStore) -> None:
    added = [await store.journal.write(AddMember("s", member)) for member in ("b", "a", "b", "")]
    assert added == [True, True, False, True]
    assert await store.members("s") == ["b", "a", ""]
    assert await store.members("none") == []


async def test_absent_is_none_and_a_value_is_replaced(store: SqliteStore) -> None:
    assert await store.get("k") is None
    await store.journal.write(Put("k", "1"))
    await store.journal.write(Put("k", "2"))
    assert await store.get("k") == "2"
    assert await store.members("k") == []


def new_job(job_id: str, seq: int, line: str = "{}", **more: object) -> NewJob:
    values: dict[str, object] = {"parents": (), "service": False, "submitted_at": 1.0, "due": 1.0, **more}
    return NewJob(job_id, seq, line, **values)  # type: ignore[arg-type]


async def test_everything_acknowledged_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = SqliteStore(path, asyncio.get_running_loop())
    batch = [
        new_job("DAG-a", store.next_seq(), "line a"),
        new_job("DAG-b", store.next_seq(), "line b", parents=(("DAG-a", 1),)),
    ]
    await store.journal.write(InsertJobs(tuple(batch)))
    await store.journal.write(SetRunning(1, "w", "run1", "h", 1, 2.0))
    await store.journal.write(Put("k", "v"))
    store = await reopen(store, path)
    running, waiting = store.unfinished()
    assert (running.status, running.worker, running.run, running.handle) == (
        JobStatus.RUNNING,
        "w",
        "run1",
        "h",
    )
    assert (waiting.status, waiting.parents) == (JobStatus.PENDING, (("DAG-a", 1),))
    assert store.line(2) == "line b"
    assert await store.get("k") == "v"
    assert store.next_seq() == 3
    await store.close()


async def test_ending_keeps_the_handle_until_the_process_is_gone(store: SqliteStore) -> None:
    await store.journal.write(InsertJobs((new_job("DAG-a", 1),)))
    await store.journal.write(SetRunning(1, "w", "run1", "h", 1, 2.0))
    await store.journal.write(SetEnded(1, JobStatus.CANCELLED, None, "why", 3.0))
    assert [row.handle for row in store.ended_but_alive()] == ["h"]
    await store.journal.write(SetGone(1, "another run"))
    assert len(store.ended_but_alive()) == 1
    await store.journal.write(SetGone(1, "run1"))
    assert store.ended_but_alive() == []
    row = store.job("DAG-a")
    assert row is not None
    assert (row.status, row.reason, row.ended_at) == (JobStatus.CANCELLED, "why", 3.0)


async def test_a_used_id_starts_afresh_and_its_history_stays(store: SqliteStore) -> None:
    await store.journal.write(InsertJobs((new_job("DAG-a", 1, "old"),)))
    await store.journal.write(SetEnded(1, JobStatus.DEAD, 1, "why", 3.0))
    await store.journal.write(InsertJobs((new_job("DAG-a", 2, "new"),)))
    row = store.job("DAG-a")
    assert row is not None
    assert (row.seq, row.status, row.reason, row.exit_code) == (2, JobStatus.PENDING, None, None)
    assert store.line(2) == "new"
    assert [entry.event for entry in await store.history("DAG-a")] == ["submitted", "submitted"]


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
