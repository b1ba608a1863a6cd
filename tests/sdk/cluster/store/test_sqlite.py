from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from tests.sdk.cluster.store.test_store import TEXTS
from titan_sdk.cluster.store.changes import AddHistory, AddMember, Expire, InsertJobs, Once, Put, StoreFailed
from titan_sdk.cluster.store.rows import NewJob
from titan_sdk.cluster.store.sqlite import SqliteStore
from titan_sdk.cluster.store.sqlite.schema import SCHEMA_VERSION, open_database
from titan_sdk.errors import TitanError
from titan_sdk.wire.exactly_once import RequestId


def test_a_damaged_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"this is no database, but it is long enough to have been one" * 100)
    with pytest.raises(TitanError, match=r"cannot open the master's state in .*move its folder away"):
        open_database(path)


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
def test_another_format_is_refused_with_a_sentence(tmp_path: Path, version: int) -> None:
    db = open_database(tmp_path / "db")
    db.execute(f"PRAGMA user_version={version}")
    db.close()
    with pytest.raises(TitanError, match=f"has format {version}; this version reads format {SCHEMA_VERSION}"):
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
    store.db.set_progress_handler(None, 1)
    assert 10 < len(steps) < 500
    await store.close()


_OF_THE_VERSION_BEFORE = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, status TEXT NOT NULL, parents TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, worker TEXT, run TEXT, handle TEXT, exit_code INTEGER, reason TEXT,
    service INTEGER NOT NULL DEFAULT 0, submitted_at REAL NOT NULL, due REAL NOT NULL, started_at REAL, ended_at REAL,
    history TEXT NOT NULL
);
CREATE INDEX jobs_services ON jobs(seq) WHERE service = 2;
CREATE INDEX jobs_ended ON jobs(ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE payloads (seq INTEGER PRIMARY KEY, line TEXT NOT NULL);
CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE expiry (key TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE members (key TEXT NOT NULL, member TEXT NOT NULL, UNIQUE (key, member));
CREATE TABLE manifests (key TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX manifests_due ON manifests(at);
CREATE TABLE requests (
    channel TEXT PRIMARY KEY, number INTEGER NOT NULL, mark TEXT NOT NULL, result TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
INSERT INTO jobs VALUES
    (2, 'DAG-service', 'COMPLETED', '[]', 1, 'w', '2.1.x', 'h2', NULL, NULL, 2, 1.0, 1.0, 2.0, 3.0, '[1.0, "submitted", ""]
'),
    (3, 'DAG-a', 'RUNNING', '[]', 1, 'w', '3.1.x', 'h3', NULL, NULL, 0, 1.25, 1.25, 2.25, NULL, '[1.25, "submitted", ""]
'),
    (4, 'DAG-killed', 'CANCELLED', '[]', 1, 'w', '4.1.x', 'h4', NULL, 'why', 0, 1.0, 1.0, 2.0, 3.0, '[1.0, "submitted", ""]
'),
    (7, 'DAG-b', 'DEAD', '[["DAG-a", 3]]', 2, 'w', '7.2.x', NULL, 9, 'why', 0, 1.5, 1.5, 2.5, 3.5, '[1.5, "submitted", ""]
[3.5, "DEAD", "why"]
');
INSERT INTO payloads VALUES (2, 'line s'), (3, 'line a'), (4, 'line k'), (7, 'line b'), (99, 'nobody''s');
INSERT INTO kv VALUES ('k', 'v'), ('titan:dag:x', '{}');
INSERT INTO members VALUES ('s', 'm');
INSERT INTO manifests VALUES ('titan:dag:x', 1.0);
INSERT INTO requests VALUES ('cccccccccccccccc', 5, '00000000', 'true', 9e9);
PRAGMA user_version=2;
"""


async def test_a_file_of_the_version_before_goes_on_with_all_that_was_in_it(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "db")) as old:
        old.executescript(_OF_THE_VERSION_BEFORE)
    for _ in range(2):
        store = SqliteStore(tmp_path / "db", asyncio.get_running_loop())
        assert [(row.job_id, row.handle, row.run) for row in store.table.unfinished()] == [
            ("DAG-a", "h3", "3.1.x")
        ]
        assert [row.job_id for row in store.table.live_services()] == ["DAG-service"]
        assert [row.job_id for row in store.table.ended_but_alive()] == ["DAG-killed"]
        ended = store.job("DAG-b")
        assert ended is not None
        assert (ended.status, ended.exit_code, ended.parents) == ("DEAD", 9, (("DAG-a", 3),))
        assert [entry.event for entry in await store.history("DAG-b")] == ["submitted", "DEAD"]
        assert ([store.line(seq) for seq in (2, 3, 4)], store.next_seq()) == (
            ["line s", "line a", "line k"],
            8,
        )
        assert (await store.get("k"), await store.members("s")) == ("v", ["m"])
        assert await store.journal.write(Once(RequestId("c" * 16, 5, "0" * 8), Put("k", "again"))) is True
        assert store.db.execute("SELECT seq FROM payloads").fetchall() == [(2,), (3,), (4,), (7,)]
        await store.close()


async def test_the_history_of_a_job_that_goes_on_for_ever_stays_bounded(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db", asyncio.get_running_loop())
    await store.journal.write(InsertJobs((NewJob("DAG-s", 1, "", (), True, 0.0, 0.0),)))
    for number in range(2000):
        store.journal.record(AddHistory("DAG-s", 1, float(number), "restarted", "x" * 100))
    await store.journal.write()
    found = await store.history("DAG-s")
    assert 200 < len(found) < 700
    assert [entry.at for entry in found] == [float(number) for number in range(2000 - len(found), 2000)]
    await store.close()


async def test_a_number_that_is_taken_is_not_mistaken_for_an_id_that_is_used_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db", asyncio.get_running_loop())
    await store.journal.write(InsertJobs((NewJob("DAG-a", 1, "a", (), False, 0.0, 0.0),)))
    taken = store.journal.write(InsertJobs((NewJob("DAG-b", 1, "b", (), False, 0.0, 0.0),)))
    beside = store.journal.write(InsertJobs((NewJob("DAG-c", 2, "c", (), False, 0.0, 0.0),)))
    with pytest.raises(StoreFailed, match=r"UNIQUE constraint failed: jobs\.seq"):
        await taken
    await beside
    assert [(row.job_id, store.line(row.seq)) for row in store.table.unfinished()] == [
        ("DAG-a", "a"),
        ("DAG-c", "c"),
    ]
    await store.close()


def test_submissions_that_an_older_version_spooled_are_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "submissions.spool").write_text('[["DAG-a",2,"line",[],false,1.5,2.5]]\n')
    with pytest.raises(TitanError, match=r"submissions\.spool holds submissions .*start that version once"):
        open_database(tmp_path / "db")
    assert not (tmp_path / "db").exists()
