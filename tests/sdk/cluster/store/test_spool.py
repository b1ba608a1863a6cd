"""What a killed master leaves: its folder is copied while it runs, and the copy is opened."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from titan_sdk.cluster.store.base import StoreFailed
from titan_sdk.cluster.store.changes import AddHistory, ForgetJobs, InsertJobs, Put, SetEnded
from titan_sdk.cluster.store.rows import NewJob
from titan_sdk.cluster.store.sqlite import SPOOL, SqliteStore
from titan_sdk.cluster.store.sqlite.schema import open_database
from titan_sdk.cluster.store.sqlite.spool import Spool
from titan_sdk.errors import TitanError
from titan_sdk.model.status import JobStatus


def new_job(job_id: str, seq: int, line: str = "line") -> NewJob:
    return NewJob(job_id, seq, line, (("DAG-parent", 7),), False, 1.5, 2.5)


def open_store(folder: Path) -> SqliteStore:
    folder.mkdir(exist_ok=True)
    return SqliteStore(folder / "db", asyncio.get_running_loop())


def submit(store: SqliteStore, *jobs: NewJob) -> list[object]:
    """What was told by the time the call came back."""
    told: list[object] = []
    store.journal.submit(
        InsertJobs(jobs), lambda: told.append("safe"), lambda: told.append("stored"), told.append
    )
    return told


def killed(folder: Path, copy: str) -> SqliteStore:
    """The store of the next master, if this one's were killed now."""
    shutil.copytree(folder, folder.with_name(copy))
    return open_store(folder.with_name(copy))


def broken(*_: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process grows beyond that size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_submission_is_safe_before_it_is_in_the_database(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    told = submit(store, new_job("DAG-a", 1, 'a "line"\n\u2028é'), new_job("DAG-b", 2))
    assert told == ["safe"]
    assert store.job("DAG-a") is None
    after = killed(tmp_path / "a", "b")
    assert [row.job_id for row in after.unfinished()] == ["DAG-a", "DAG-b"]
    assert after.line(1) == 'a "line"\n\u2028é'
    row = after.job("DAG-a")
    assert row is not None
    assert (row.status, row.parents, row.submitted_at, row.due) == ("PENDING", (("DAG-parent", 7),), 1.5, 2.5)
    assert [entry.event for entry in await after.history("DAG-a")] == ["submitted"]
    assert after.next_seq() == 3
    await store.journal.write()
    assert told == ["safe", "stored"]
    await after.close()
    await store.close()
    assert store.size() == (tmp_path / "a" / "db").stat().st_size


async def test_what_is_in_the_database_is_not_stored_once_more(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    submit(store, new_job("DAG-a", 1))
    store.journal.record(
        SetEnded(1, JobStatus.COMPLETED, 0, None, 3.0, True), AddHistory("DAG-a", 1, 3.0, "COMPLETED", "")
    )
    submit(store, new_job("DAG-b", 2, "earlier"))
    store.journal.record(SetEnded(2, JobStatus.COMPLETED, 0, None, 3.0, True))
    await store.journal.write()
    submit(store, new_job("DAG-b", 3, "later"))
    await store.journal.write()
    submit(store, new_job("DAG-c", 4))
    after = killed(tmp_path / "a", "b")
    assert [(row.job_id, row.seq) for row in after.unfinished()] == [("DAG-b", 3), ("DAG-c", 4)]
    assert after.line(3) == "later"
    assert [entry.event for entry in await after.history("DAG-a")] == ["submitted", "COMPLETED"]
    await after.close()
    await store.close()


async def test_a_forgotten_job_does_not_come_back(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    submit(store, new_job("DAG-a", 1), new_job("DAG-b", 2))
    store.journal.record(SetEnded(1, JobStatus.COMPLETED, 0, None, 3.0, True))
    old = await store.finished_before(4.0)
    assert old == [("DAG-a", 1)]
    await store.journal.write(ForgetJobs(tuple(old)))
    after = killed(tmp_path / "a", "b")
    assert (after.job("DAG-a"), [row.job_id for row in after.unfinished()]) == (None, ["DAG-b"])
    await after.close()
    await store.close()


async def test_nothing_is_forgotten_while_something_cannot_be_stored(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    submit(store, new_job("DAG-a", 1), new_job("DAG-b", 2))
    store.journal.record(SetEnded(1, JobStatus.COMPLETED, 0, None, 3.0, True))
    await store.journal.write()
    store.db.execute("PRAGMA query_only=1")
    submit(store, new_job("DAG-c", 3))
    assert await store.finished_before(4.0) == []
    # From now on whoever submits is refused.
    (refusal,) = submit(store, new_job("DAG-d", 4))
    assert isinstance(refusal, StoreFailed)
    assert "readonly" in str(refusal)
    after = killed(tmp_path / "a", "b")
    assert [row.job_id for row in after.unfinished()] == ["DAG-b", "DAG-c"]
    await after.close()
    await store.close()
    # What could not be stored until the end is left to the next one.
    later = open_store(tmp_path / "a")
    assert [row.job_id for row in later.unfinished()] == ["DAG-b", "DAG-c"]
    await later.close()


async def test_the_file_does_not_grow_without_end(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    sizes = []
    for seq in range(1, 21):
        submit(store, new_job(f"DAG-{seq}", seq, "x" * 50_000))
        sizes.append((tmp_path / "a" / SPOOL).stat().st_size)
        await store.journal.write()
    assert 200_000 < max(sizes) < 350_000
    assert len(store.unfinished()) == 20
    await store.close()
    assert (tmp_path / "a" / SPOOL).read_bytes() == b""


async def test_half_a_line_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(tmp_path / "a")
    submit(store, new_job("DAG-a", 1))
    submit(store, new_job("DAG-b", 2))
    whole = (tmp_path / "a" / SPOOL).read_bytes()
    await store.close()
    first = whole.index(b"\n")
    for end in range(len(whole)):
        folder = tmp_path / str(end)
        folder.mkdir()
        (folder / SPOOL).write_bytes(whole[:end])
        with caplog.at_level(logging.WARNING):
            after = open_store(folder)
        assert [row.job_id for row in after.unfinished()] == ["DAG-a"] * (end > first)
        assert (f"{SPOOL} is not whole" in caplog.text) == (end not in {0, first + 1})
        caplog.clear()
        await after.close()


@pytest.mark.parametrize(
    "line", ["5", "null", "[7]", '[["DAG-x",9,"line"]]', '[["DAG-x",9,"line",[7],false,1.0,1.0]]']
)
async def test_a_line_that_is_not_of_a_spool_is_left_out(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = '[["DAG-a",1,"line",[],false,1.5,2.5]]'
    (tmp_path / SPOOL).write_text(f"{line}\n{whole}\n")
    after = open_store(tmp_path)
    assert [row.job_id for row in after.unfinished()] == ["DAG-a"]
    assert f"line 1 of {tmp_path / SPOOL} is not whole" in caplog.text
    await after.close()


async def test_nothing_is_appended_to_half_a_line_that_stayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / SPOOL).write_text('[["DAG-a",1,"line",[],false,1.5,2.5]]\n[["DAG-b",2,')
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", broken)
        store = open_store(tmp_path / "a")
        assert submit(store, new_job("DAG-c", 3)) == ["stored", "safe"]
    after = killed(tmp_path / "a", "b")
    assert [row.job_id for row in after.unfinished()] == ["DAG-a", "DAG-c"]
    await after.close()
    await store.close()


async def test_a_full_disk_refuses_a_submission_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    submit(store, new_job("DAG-a", 1))
    size = store._spool.size
    for room in (size, size + 1, size + 20):
        with room_for(room):
            (refusal,) = submit(store, new_job("DAG-b", 2))
        assert isinstance(refusal, StoreFailed)
        assert SPOOL in str(refusal)
        assert (tmp_path / "a" / SPOOL).stat().st_size == size
    assert submit(store, new_job("DAG-c", 3)) == ["safe"]
    await store.journal.write(Put("k", "v"))
    assert [row.job_id for row in store.unfinished()] == ["DAG-a", "DAG-c"]
    await store.close()


async def test_text_that_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    (refusal,) = submit(store, new_job("DAG-a", 1, "\ud800"))
    assert isinstance(refusal, StoreFailed)
    assert "surrogates not allowed" in str(refusal)
    await store.close()


async def test_many_submissions_are_stored_together(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    commits: list[str] = []
    store.db.set_trace_callback(
        lambda statement: commits.append(statement) if statement == "COMMIT" else None
    )
    told = [submit(store, new_job(f"DAG-{seq}", seq)) for seq in range(1, 101)]
    while "stored" not in told[-1]:  # noqa: ASYNC110 - by themselves, after a moment
        await asyncio.sleep(0.001)
    assert len(commits) == 1
    assert len(store.unfinished()) == 100
    await store.close()


async def test_after_a_line_that_cannot_be_taken_away_the_database_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "a")
    assert submit(store, new_job("DAG-a", 1)) == ["safe"]
    with monkeypatch.context() as patch, room_for(store._spool.size + 20):
        patch.setattr(os, "ftruncate", broken)
        (refusal,) = submit(store, new_job("DAG-b", 2))
        assert isinstance(refusal, StoreFailed)
    assert submit(store, new_job("DAG-c", 3)) == ["stored", "safe"]
    after = killed(tmp_path / "a", "b")
    assert [row.job_id for row in after.unfinished()] == ["DAG-a", "DAG-c"]
    await after.close()
    # All of it was stored then, so the file begins anew.
    assert (tmp_path / "a" / SPOOL).read_bytes() == b""
    assert submit(store, new_job("DAG-d", 4)) == ["safe"]
    store.journal.record(SetEnded(1, JobStatus.COMPLETED, 0, None, 3.0, True))
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", broken)
        assert await store.finished_before(4.0) == []
    assert await store.finished_before(4.0) == [("DAG-a", 1)]
    await store.close()


def test_submissions_that_cannot_be_taken_over_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / SPOOL).write_bytes(b'[["DAG-a",1,"line",[],false,1.5,2.5]]\n')
    db = open_database(tmp_path / "db")
    db.execute("PRAGMA query_only=1")
    with pytest.raises(
        TitanError, match=r"cannot store the submissions in .*readonly.*make room on the disk"
    ):
        Spool(tmp_path / SPOOL, db)
    db.execute("PRAGMA query_only=0")
    Spool(tmp_path / SPOOL, db).close()
    assert db.execute("SELECT job_id FROM jobs").fetchall() == [("DAG-a",)]
    db.close()


def test_submissions_that_do_not_fit_the_database_stop_the_start(tmp_path: Path) -> None:
    """One of the two is from a copy: making room would not help."""
    (tmp_path / SPOOL).write_bytes(b'[["DAG-a",1,"line",[],false,1.5,2.5]]\n')
    db = open_database(tmp_path / "db")
    Spool(tmp_path / SPOOL, db).close()
    (tmp_path / SPOOL).write_bytes(b'[["DAG-other",1,"line",[],false,1.5,2.5]]\n')
    with pytest.raises(TitanError, match=r"do not fit the database beside it .*move the file away"):
        Spool(tmp_path / SPOOL, db)
    db.close()


async def test_a_spool_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / SPOOL).mkdir()
    with pytest.raises(TitanError, match=r"cannot open .*submissions\.spool, where the master keeps new"):
        open_store(tmp_path)
