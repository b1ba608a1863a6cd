from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from titan_sdk.cluster.store import jobs
from titan_sdk.cluster.store.schema import SCHEMA_VERSION, open_database
from titan_sdk.cluster.store.sqlite import SqliteStore
from titan_sdk.errors import TitanError
from titan_sdk.model.status import JobStatus

TEXTS = ["", "NULL", "ERROR: x", "a|b\nc", "héllo 日本語 😀", "nul\0inside", " edges ", "x" * 3_000_000]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "db", asyncio.get_running_loop())
    yield opened
    opened.close()


def reopen(store: SqliteStore, path: Path) -> SqliteStore:
    store.close()
    return SqliteStore(path, asyncio.get_running_loop())


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
async def test_any_text_survives_as_key_value_and_member(store: SqliteStore, text: str) -> None:
    await store.put("value", text)
    await store.put(text, "key")
    assert await store.add_member("set", text)
    assert store.get("value") == text
    assert store.get(text) == "key"
    assert store.members("set") == [text]


async def test_a_member_is_new_once_and_members_keep_their_order(store: SqliteStore) -> None:
    added = [await store.add_member("s", member) for member in ("b", "a", "b", "")]
    assert added == [True, True, False, True]
    assert store.members("s") == ["b", "a", ""]
    assert store.members("none") == []


async def test_absent_is_none_and_a_value_is_replaced(store: SqliteStore) -> None:
    assert store.get("k") is None
    await store.put("k", "1")
    await store.put("k", "2")
    assert store.get("k") == "2"
    assert store.members("k") == []


def new_job(job_id: str, seq: int, line: str = "{}", **more: object) -> jobs.NewJob:
    values: dict[str, object] = {"parents": (), "service": False, "submitted_at": 1.0, "due": 1.0, **more}
    return jobs.NewJob(job_id, seq, line, **values)  # type: ignore[arg-type]


async def test_everything_acknowledged_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "db"
    store = SqliteStore(path, asyncio.get_running_loop())
    batch = [
        new_job("DAG-a", store.next_seq(), "line a"),
        new_job("DAG-b", store.next_seq(), "line b", parents=(("DAG-a", 1),)),
    ]
    await store.journal.write(lambda db: jobs.insert(db, batch))
    await store.journal.write(lambda db: jobs.set_running(db, 1, "w", "run1", "h", 1, 2.0))
    await store.put("k", "v")
    store = reopen(store, path)
    running, waiting = jobs.unfinished(store.db)
    assert (running.status, running.worker, running.run, running.handle) == (
        JobStatus.RUNNING,
        "w",
        "run1",
        "h",
    )
    assert (waiting.status, waiting.parents) == (JobStatus.PENDING, (("DAG-a", 1),))
    assert jobs.line(store.db, 2) == "line b"
    assert store.get("k") == "v"
    assert store.next_seq() == 3
    store.close()


async def test_ending_keeps_the_handle_until_the_process_is_gone(store: SqliteStore) -> None:
    await store.journal.write(lambda db: jobs.insert(db, [new_job("DAG-a", 1)]))
    await store.journal.write(lambda db: jobs.set_running(db, 1, "w", "run1", "h", 1, 2.0))
    await store.journal.write(lambda db: jobs.set_ended(db, 1, JobStatus.CANCELLED, None, "why", 3.0))
    assert [row.handle for row in jobs.ended_but_alive(store.db)] == ["h"]
    await store.journal.write(lambda db: jobs.set_gone(db, 1, "another run"))
    assert len(jobs.ended_but_alive(store.db)) == 1
    await store.journal.write(lambda db: jobs.set_gone(db, 1, "run1"))
    assert jobs.ended_but_alive(store.db) == []
    row = jobs.get(store.db, "DAG-a")
    assert row is not None
    assert (row.status, row.reason, row.ended_at) == (JobStatus.CANCELLED, "why", 3.0)


async def test_a_used_id_starts_afresh_and_its_history_stays(store: SqliteStore) -> None:
    await store.journal.write(lambda db: jobs.insert(db, [new_job("DAG-a", 1, "old")]))
    await store.journal.write(lambda db: jobs.set_ended(db, 1, JobStatus.DEAD, 1, "why", 3.0))
    await store.journal.write(lambda db: jobs.insert(db, [new_job("DAG-a", 2, "new")]))
    row = jobs.get(store.db, "DAG-a")
    assert row is not None
    assert (row.seq, row.status, row.reason, row.exit_code) == (2, JobStatus.PENDING, None, None)
    assert jobs.line(store.db, 2) == "new"
    assert [entry.event for entry in jobs.history(store.db, "DAG-a")] == ["submitted", "submitted"]


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
