"""Group commit over a real SQLite file, whose commits are counted and made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from titan_sdk.cluster.store import journal as pace
from titan_sdk.cluster.store.changes import (
    AddMember,
    InDoubt,
    InsertJobs,
    Put,
    SetEnded,
    SetRunning,
    StoreFailed,
    Unavailable,
)
from titan_sdk.cluster.store.job_table import JobTable
from titan_sdk.cluster.store.journal import Batch, Journal
from titan_sdk.cluster.store.rows import NewJob
from titan_sdk.cluster.store.sqlite import SqliteStore
from titan_sdk.model.status import JobStatus

BAD = Put("k", "half \ud83d")
"""What no store can hold."""


class Disk(SqliteStore):
    """Members of one set, so that their order is known."""

    def __init__(self, path: Path, *, synced: bool = False) -> None:
        super().__init__(path, asyncio.get_running_loop(), synced=synced)
        self.commits = 0
        self.db.set_trace_callback(self._trace)

    def _trace(self, statement: str) -> None:
        self.commits += statement == "COMMIT"

    def fill(self) -> None:
        """From here on no page can be added."""
        pages = self.db.execute("PRAGMA page_count").fetchone()[0]
        self.db.execute(f"PRAGMA max_page_count={pages}")

    def free(self) -> None:
        self.db.execute("PRAGMA max_page_count=100000")

    def kept(self) -> list[str]:
        return [row[0] for row in self.db.execute("SELECT member FROM members ORDER BY rowid")]


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    made = Disk(tmp_path / "db")
    yield made
    made.db.close()


def insert(value: str) -> AddMember:
    return AddMember("s", value)


async def test_one_turn_is_one_transaction(disk: Disk) -> None:
    names = [str(n) for n in range(50)]
    assert await asyncio.gather(*(disk.journal.write(insert(name)) for name in names)) == [True] * 50
    assert (disk.kept(), disk.commits) == (names, 1)


async def test_writes_of_one_turn_wait_for_the_disk_together(tmp_path: Path) -> None:
    disk, names = Disk(tmp_path / "db", synced=True), [str(n) for n in range(50)]

    def write(name: str) -> asyncio.Future[object]:
        written = disk.journal.write(insert(name))
        disk.journal.commit()
        return written

    assert await asyncio.gather(*map(write, names)) == [True] * 50
    assert (disk.kept(), disk.commits) == (names, 1)
    disk.db.close()


async def test_nothing_is_reported_before_it_is_committed(disk: Disk) -> None:
    seen: list[bool] = []
    disk.journal.record(insert("1"), then=lambda: seen.append(disk.db.in_transaction))
    assert seen == []
    disk.journal.commit()
    assert (seen, disk.kept()) == ([False], ["1"])


async def test_a_failing_write_takes_no_other_with_it(disk: Disk) -> None:
    good, bad, also = (disk.journal.write(change) for change in (insert("1"), BAD, insert("2")))
    assert await good is True
    with pytest.raises(StoreFailed, match="surrogates"):
        await bad
    assert await also is True
    assert disk.kept() == ["1", "2"]


async def test_a_full_disk_fails_clients_and_keeps_the_masters_own_records_in_order(disk: Disk) -> None:
    disk.fill()
    stored: list[str] = []
    disk.journal.record(insert("a" * 100_000), then=lambda: stored.append("first"))
    client = disk.journal.write(insert("b" * 100_000))
    disk.journal.record(insert("small"), then=lambda: stored.append("second"))
    disk.journal.commit()
    with pytest.raises(StoreFailed, match="full"):
        await client
    assert stored == []
    disk.free()
    disk.journal.commit()
    assert stored == ["first", "second"]
    assert [len(member) for member in disk.kept()] == [100_000, 5]


async def test_nothing_overtakes_what_could_not_be_stored(disk: Disk) -> None:
    """What a client wants may rest on the record before it, or be undone by it: a later submission of the same id."""
    stored: list[str] = []
    disk.fill()
    disk.journal.record(insert("a" * 100_000), then=lambda: stored.append("own"))
    disk.journal.commit()
    small, empty = disk.journal.write(insert("there is room for this")), disk.journal.write()
    disk.journal.commit()
    for refused in (small, empty):
        with pytest.raises(StoreFailed, match="full"):
            await refused
    assert (disk.kept(), stored) == ([], [])
    disk.free()
    disk.journal.commit()
    assert stored == ["own"]
    assert await disk.journal.write(insert("now")) is True


async def test_it_tries_again_by_itself(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "RETRY_SECONDS", 0.01)
    stored = asyncio.Event()
    disk.fill()
    disk.journal.record(insert("a" * 100_000), then=stored.set)
    disk.journal.commit()
    assert "full" in str(disk.journal.failing)
    disk.free()
    await asyncio.wait_for(stored.wait(), 30)
    assert disk.journal.failing is None


async def test_commit_deals_with_everything_so_far_before_it_returns(disk: Disk) -> None:
    seen: list[object] = []
    disk.journal.record(insert("own"), then=lambda: seen.append("own"))
    client = disk.journal.write(insert("client"))
    disk.journal.commit()
    assert (seen, client.result()) == (["own"], True)
    assert (disk.kept(), disk.commits) == (["own", "client"], 1)
    disk.journal.commit()
    assert disk.commits == 1
    await disk.journal.write(insert("later"))
    assert (disk.kept(), disk.commits) == (["own", "client", "later"], 2)


async def test_a_failure_that_is_not_the_databases_loses_nothing(disk: Disk, mocker: MockerFixture) -> None:
    """No memory, say: clients are told, and what was acknowledged is kept and tried again."""
    broken = mocker.patch.object(disk, "commit", side_effect=MemoryError)
    stored: list[str] = []
    client = disk.journal.write(insert("client's"))
    disk.journal.record(insert("own"), then=lambda: stored.append("own"))
    refused = disk.journal.write(insert("later"))
    disk.journal.commit()
    for future in (client, refused):
        with pytest.raises(StoreFailed, match="MemoryError"):
            await future
    assert str(disk.journal.failing) == "MemoryError"
    mocker.stop(broken)
    disk.journal.commit()
    assert (disk.kept(), stored, disk.journal.failing) == (["own"], ["own"], None)


async def test_who_fails_at_an_outcome_takes_none_from_others(disk: Disk) -> None:
    told, unexpected = list[str](), list[str]()
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: unexpected.append(repr(context["exception"]))
    )

    def broken() -> None:
        raise RuntimeError("a fault of ours")

    disk.journal.record(insert("1"), then=broken)
    disk.journal.record(insert("2"), then=lambda: told.append("own"))
    assert await disk.journal.write(insert("3")) is True
    assert (told, disk.kept()) == (["own"], ["1", "2", "3"])
    assert unexpected == ["RuntimeError('a fault of ours')"]


async def test_what_is_written_because_of_an_outcome_follows_it(disk: Disk) -> None:
    """A pipelined request is carried out while others of the same commit have not heard of theirs."""
    told: list[str] = []

    def first() -> None:
        told.append("first")
        disk.journal.record(insert("because"), then=lambda: told.append("because"))
        disk.journal.commit()

    disk.journal.record(insert("first"), then=first)
    disk.journal.record(insert("second"), then=lambda: told.append("second"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert told == ["first", "second", "because"]


async def test_a_large_submission_lets_others_ask_meanwhile_and_is_stored_as_a_whole(disk: Disk) -> None:
    jobs = tuple(NewJob(f"DAG-{n}", n, "line", (), False, 0.0, 0.0) for n in range(1, 5001))
    turns = 0
    submission = disk.journal.write(InsertJobs(jobs))
    beside = disk.journal.write(insert("beside"))
    while not submission.done():
        assert disk.job("DAG-1") is None
        await asyncio.sleep(0)
        turns += 1
    assert await beside is True
    assert (len(disk.table.unfinished()), disk.commits) == (5000, 1)
    assert turns > 20


async def test_while_a_large_submission_is_stored_its_ids_are_what_they_were(disk: Disk) -> None:
    def jobs(first: int) -> InsertJobs:
        return InsertJobs(
            tuple(NewJob(f"DAG-{n}", first + n, "line", (), False, 0.0, 0.0) for n in range(1000))
        )

    await disk.journal.write(jobs(1))
    ended = [SetEnded(seq, JobStatus.DEAD, 3, "why", 2.0, gone=True) for seq in range(1, 1001)]
    await disk.journal.write(*ended)
    submission = disk.journal.write(jobs(5000))
    while not submission.done():
        rows = [disk.job(f"DAG-{n}") for n in range(1000)]
        assert [row and row.seq for row in rows] == list(range(1, 1001))
        await asyncio.sleep(0)
    assert {row and row.seq for row in map(disk.job, ("DAG-0", "DAG-999"))} == {5000, 5999}
    assert disk.db.execute("SELECT count(*) FROM payloads").fetchone() == (1000,)


async def test_a_large_submission_that_fails_leaves_nothing(disk: Disk) -> None:
    jobs = tuple(NewJob(f"DAG-{n}", n, "line", (), False, 0.0, 0.0) for n in range(1, 1000))
    taken = NewJob("DAG-other", 5, "line", (), False, 0.0, 0.0)
    with pytest.raises(StoreFailed, match=r"jobs\.seq"):
        await disk.journal.write(InsertJobs((*jobs, taken)))
    assert (disk.table.rows(), disk.kept()) == ([], [])
    assert disk.db.execute("SELECT count(*) FROM payloads").fetchone() == (0,)


async def test_bookkeeping_counts_at_once_and_a_clients_change_once_it_is_durable(disk: Disk) -> None:
    submitted = disk.journal.write(InsertJobs((NewJob("DAG-a", 1, "line", (), False, 0.0, 0.0),)))
    assert disk.job("DAG-a") is None
    await submitted
    disk.journal.record(SetRunning(1, "w", "run", "h", 1, 1.0))
    disk.journal.record(SetEnded(1, JobStatus.DEAD, 3, "why", 2.0, gone=True))
    for _ in range(2):
        row = disk.job("DAG-a")
        assert row is not None
        assert (row.status, row.worker, row.exit_code) == (JobStatus.DEAD, "w", 3)
        await disk.journal.write()
    assert disk.table.rows() == []


# ---------------------------------------------------------------------- a backend that is far away


class Far:
    """One whose commits take a while, and fail as they are told to."""

    waits = gathers = True

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.failures: list[Exception] = []

    async def commit(self, batch: Batch) -> list[object]:
        self.batches.append(batch)
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        return [len(self.batches)] * len(batch.operations)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Far:
    monkeypatch.setattr(pace, "RETRY_SECONDS", 0.01)
    return Far()


async def test_what_comes_while_a_commit_is_under_way_is_the_next_one(far: Far) -> None:
    journal = Journal(far, JobTable(), asyncio.get_running_loop())
    first = journal.write(Put("k", "1"))
    while not far.batches:  # noqa: ASYNC110 - the journal begins by itself
        await asyncio.sleep(0)
    rest = [journal.write(Put("k", str(n))) for n in range(9)]
    assert await asyncio.gather(first, *rest) == [1, *[2] * 9]
    assert await journal.close(30)


async def test_a_commit_in_doubt_is_sent_again_as_it_was_and_nothing_overtakes_it(far: Far) -> None:
    journal, order = Journal(far, JobTable(), asyncio.get_running_loop()), list[str]()
    far.failures = [InDoubt("no reply"), Unavailable("not there"), InDoubt("no reply")]
    client = journal.write(Put("k", "v"))
    journal.record(Put("own", "v"), then=lambda: order.append("own"))
    while journal.failing is None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    with pytest.raises(StoreFailed):
        await journal.write(Put("k", "refused at once"))
    journal.record(Put("later", "v"), then=lambda: order.append("later"))
    assert await client == 4
    assert await journal.close(30)
    assert order == ["own", "later"]
    assert far.batches[0] is far.batches[1] is far.batches[2] is far.batches[3]
    assert len(far.batches) == 5


async def test_while_it_is_away_clients_are_refused_and_records_wait(far: Far) -> None:
    journal, order = Journal(far, JobTable(), asyncio.get_running_loop()), list[int]()
    far.failures = [Unavailable("away")] * 3
    client = journal.write(Put("k", "v"))
    for number in range(5):
        journal.record(Put("own", "v"), then=lambda number=number: order.append(number))
    with pytest.raises(Unavailable, match="away"):
        await client
    assert str(journal.failing) == "away"
    assert await journal.close(30)
    assert (order, journal.failing) == ([0, 1, 2, 3, 4], None)


async def test_what_cannot_be_stored_when_it_closes_is_told(far: Far) -> None:
    journal = Journal(far, JobTable(), asyncio.get_running_loop())
    far.failures = [InDoubt("no reply")] * 10_000
    client = journal.write(Put("k", "v"))
    assert not await journal.close(0.05)
    with pytest.raises(StoreFailed, match="the master has stopped"):
        await client
    with pytest.raises(StoreFailed, match="the master has stopped"):
        await journal.write(Put("k", "v"))
