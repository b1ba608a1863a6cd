from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from titan_sdk.cluster.store.base import StoreFailed
from titan_sdk.cluster.store.journal import Journal
from titan_sdk.cluster.store.sqlite.transactions import transaction


class Disk:
    """A table to write to, whose commits can be counted and made to fail."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE t (x)")
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

    def commit(self, batch: Sequence[tuple[Callable[[sqlite3.Connection], object], ...]]) -> list[object]:
        with transaction(self.db):
            return [[change(self.db) for change in entry][-1] for entry in batch]

    def rows(self) -> list[object]:
        return [row[0] for row in self.db.execute("SELECT x FROM t ORDER BY rowid")]


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    made = Disk(tmp_path / "db")
    yield made
    made.db.close()


def insert(value: object):  # type: ignore[no-untyped-def]
    return lambda db: db.execute("INSERT INTO t VALUES (?)", (value,)).rowcount


async def test_one_turn_is_one_transaction(disk: Disk) -> None:
    journal = Journal(disk.commit, asyncio.get_running_loop())
    results = await asyncio.gather(*(journal.write(insert(n)) for n in range(50)))
    assert results == [1] * 50
    assert disk.rows() == list(range(50))
    assert disk.commits == 1


async def test_nothing_is_reported_before_it_is_committed(disk: Disk) -> None:
    journal = Journal(disk.commit, asyncio.get_running_loop())
    seen: list[bool] = []
    journal.record(insert(1), then=lambda: seen.append(disk.db.in_transaction))
    assert seen == []
    journal.flush()
    assert seen == [False]
    assert disk.rows() == [1]


async def test_a_failing_write_takes_no_other_with_it(disk: Disk) -> None:
    journal = Journal(disk.commit, asyncio.get_running_loop())
    good, bad, also = (
        journal.write(insert(1)),
        journal.write(lambda db: db.execute("INSERT INTO nowhere VALUES (1)")),
        journal.write(insert(2)),
    )
    assert await good == 1
    with pytest.raises(StoreFailed, match="nowhere"):
        await bad
    assert await also == 1
    assert disk.rows() == [1, 2]


async def test_a_full_disk_fails_clients_and_keeps_the_masters_own_records_in_order(disk: Disk) -> None:
    journal = Journal(disk.commit, asyncio.get_running_loop())
    disk.fill()
    stored: list[str] = []
    journal.record(insert("a" * 100_000), then=lambda: stored.append("first"))
    client = journal.write(insert("b" * 100_000))
    journal.record(insert("small"), then=lambda: stored.append("second"))
    journal.flush()
    with pytest.raises(StoreFailed, match="full"):
        await client
    assert stored == []
    disk.free()
    journal.flush()
    assert stored == ["first", "second"]
    assert [len(str(row)) for row in disk.rows()] == [100_000, 5]


async def test_nothing_overtakes_what_could_not_be_stored(disk: Disk) -> None:
    """What a client wants may rest on the record before it, or be undone by it: a later submission of the same id."""
    journal, stored = Journal(disk.commit, asyncio.get_running_loop()), list[str]()
    disk.fill()
    journal.record(insert("a" * 100_000), then=lambda: stored.append("own"))
    journal.flush()
    small, empty = journal.write(insert("there is room for this")), journal.write()
    journal.flush()
    for refused in (small, empty):
        with pytest.raises(StoreFailed, match="full"):
            await refused
    assert (disk.rows(), stored) == ([], [])
    disk.free()
    journal.flush()
    assert stored == ["own"]
    assert await journal.write(insert("now")) == 1


async def test_what_depends_on_a_failed_write_is_undone_before_later_entries(disk: Disk) -> None:
    journal = Journal(disk.commit, asyncio.get_running_loop())
    order: list[str] = []
    journal.write_with(
        lambda db: db.execute("INSERT INTO nowhere VALUES (1)"),
        lambda _: order.append("done"),
        lambda _: order.append("undone"),
    )
    journal.record(insert(1), then=lambda: order.append("later"))
    journal.flush()
    assert order == ["undone", "later"]


async def test_commit_deals_with_everything_so_far_before_it_returns(disk: Disk) -> None:
    journal, seen = Journal(disk.commit, asyncio.get_running_loop()), []
    journal.record(insert("own"), then=lambda: seen.append("own"))
    journal.write_with(insert("client"), lambda result: seen.append(result), seen.append)
    journal.commit()
    assert (seen, disk.rows(), disk.commits) == (["own", 1], ["own", "client"], 1)
    journal.commit()
    assert disk.commits == 1
    await journal.write(insert("later"))
    assert (disk.rows(), disk.commits) == (["own", "client", "later"], 2)


async def test_a_commit_that_fails_tells_the_client_and_keeps_the_masters_own(disk: Disk) -> None:
    journal, seen = Journal(disk.commit, asyncio.get_running_loop()), []
    disk.fill()
    journal.record(insert("x" * 5000), then=lambda: seen.append("own"))
    journal.write_with(insert("y" * 5000), seen.append, lambda exc: seen.append(type(exc)))
    journal.commit()
    assert seen == [StoreFailed]
    disk.free()
    journal.commit()
    assert (seen, disk.rows()) == ([StoreFailed, "own"], ["x" * 5000])


async def test_a_failure_that_is_not_the_databases_loses_nothing(disk: Disk) -> None:
    """No memory, say: clients are told, and what was acknowledged is kept and tried again."""
    armed = True

    def commit(batch: Sequence[tuple[Callable[[sqlite3.Connection], object], ...]]) -> list[object]:
        if armed:
            raise MemoryError
        return disk.commit(batch)

    journal, stored = Journal(commit, asyncio.get_running_loop()), list[str]()
    client = journal.write(insert("client's"))
    journal.record(insert("own"), then=lambda: stored.append("own"))
    refused = journal.write(insert("later"))
    journal.flush()
    assert await client_failure(client) == await client_failure(refused) == "MemoryError"
    assert str(journal.failing) == "MemoryError"
    armed = False
    journal.flush()
    assert (disk.rows(), stored, journal.failing) == (["own"], ["own"], None)


async def client_failure(future: asyncio.Future[object]) -> str:
    with pytest.raises(StoreFailed) as caught:
        await future
    return str(caught.value)


async def test_whoever_fails_at_an_outcome_takes_none_from_others(disk: Disk) -> None:
    loop, told, unexpected = asyncio.get_running_loop(), list[object](), list[str]()
    loop.set_exception_handler(lambda _, context: unexpected.append(repr(context["exception"])))
    journal = Journal(disk.commit, loop)

    def broken(_: object) -> None:
        raise RuntimeError("a fault of ours")

    journal.write_with(insert(1), broken, told.append)
    journal.record(insert(2), then=lambda: told.append("own"))
    journal.write_with(lambda db: db.execute("INSERT INTO nowhere VALUES (1)"), told.append, broken)
    last = journal.write(insert(3))
    assert await last == 1
    assert (told, disk.rows()) == (["own"], [1, 2, 3])
    assert unexpected == ["RuntimeError('a fault of ours')"] * 2


async def test_what_is_written_because_of_an_outcome_follows_it(disk: Disk) -> None:
    """A pipelined request is carried out while others of the same commit have not heard of theirs."""
    journal, told = Journal(disk.commit, asyncio.get_running_loop()), list[object]()

    def first(_: object) -> None:
        told.append("first")
        journal.write_with(insert("because"), lambda _: told.append("because"), told.append)
        journal.commit()

    journal.write_with(insert("first"), first, told.append)
    journal.write_with(insert("second"), lambda _: told.append("second"), told.append)
    for _ in range(3):
        await asyncio.sleep(0)
    assert told == ["first", "second", "because"]
