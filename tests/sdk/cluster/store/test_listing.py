"""Lists of jobs and the feed of changes, on every store."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sdk.cluster.store.opening import Open
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import ForgetJobs, InsertJobs, SetEnded, SetRunning
from titan_sdk.cluster.store.journal import Feed
from titan_sdk.cluster.store.rows import NewJob
from titan_sdk.cluster.store.sqlite import SqliteStore, listing
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.listing import List

ORDERS = {"newest": "edcba", "oldest": "abcde", "started": "ac", "ended": "ca"}


def job(number: int, name: str, **more: object) -> NewJob:
    made = NewJob(f"DAG-{name}", number, "{}", (), False, float(number), 0.0, "GPU")
    return replace(made, **more)  # type: ignore[arg-type]


async def fill(store: Store, *jobs: NewJob) -> None:
    await store.journal.write(InsertJobs(jobs))


async def ids(store: Store, request: List) -> str:
    return "".join(row.job_id.removeprefix("DAG-") for row in await store.listed(request))


async def five(store: Store) -> None:
    """Five jobs, of which a and c have run; c, the later one, ended first, dead."""
    await fill(store, *(job(n, name) for n, name in enumerate("abcde", 1)))
    for seq, at in ((1, 10.0), (3, 9.0)):
        await store.journal.write(SetRunning(seq, "w", "run1", "h", 1, at))
    await store.journal.write(SetEnded(3, JobStatus.DEAD, 7, "why", 30.0, gone=True))
    store.journal.record(SetEnded(1, JobStatus.COMPLETED, 0, None, 20.0, gone=True))
    await store.journal.write()


@pytest.mark.parametrize(("order", "names"), ORDERS.items())
@pytest.mark.parametrize("window", [1, 2, 100])
async def test_pages_follow_one_another_in_every_order(
    store: Store, order: str, names: str, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_WINDOW", window)
    await five(store)
    whole = await store.listed(List("jobs", order))
    assert await ids(store, List("jobs", order)) == names
    assert await store.count_listed(List("jobs", order)) == len(names)
    # What comes new between two pages moves nothing.
    await fill(store, job(6, "f"))
    for place, row in enumerate(whole, 1):
        key = {"newest": row.seq, "oldest": -row.seq, "started": row.started_at, "ended": row.ended_at}[order]
        rest = await ids(store, List("jobs", order, 1, f"{key!r}:{row.seq}"))
        assert rest == (names + ("f" if order == "oldest" else ""))[place : place + 2]


FILTERS = [
    (List("jobs", states=("DEAD",)), "c"),
    (List("jobs", states=("PENDING", "COMPLETED")), "edba"),
    (List("jobs", tag="CPU"), ""),
    (List("jobs", prefix="DAG-a"), "a"),
    (List("jobs", prefix="b"), "b"),
    (List("jobs", contains="G-D"), "d"),
    (List("jobs", since=2.0, until=4.0), "cb"),
    (List("jobs", since=2.0, states=("PENDING",), tag="GPU", limit=1), "ed"),
    (List("services"), ""),
    (List("dags"), ""),
]


async def test_a_list_has_what_fits_every_filter_also_after_reopening(open_store: Open) -> None:
    store = await open_store()
    await five(store)
    for _ in range(2):
        assert [await ids(store, request) for request, _ in FILTERS] == [names for _, names in FILTERS]
        await store.close()
        store = await open_store()
    await store.close()


async def test_an_id_used_again_and_a_removed_job_are_listed_as_they_are(store: Store) -> None:
    await five(store)
    await fill(store, job(6, "c", tag="CPU", dag="d", dag_run="r"))
    (row,) = await store.listed(List("jobs", tag="CPU"))
    assert (row.job_id, row.seq, row.status, row.dag, row.dag_run) == (
        "DAG-c",
        6,
        JobStatus.PENDING,
        "d",
        "r",
    )
    await store.journal.write(ForgetJobs((("DAG-a", 1), ("DAG-c", 3))))
    assert await ids(store, List("jobs")) == "cedb"
    assert store.job("DAG-a") is None


async def test_dags_are_submissions_with_the_states_of_their_jobs(store: Store) -> None:
    names = {"a": ("x", "1"), "b": ("x", "2"), "c": ("x", "1"), "d": ("Y", "1"), "e": (None, None)}
    await fill(store, *(job(n, name, dag=d, dag_run=r) for n, (name, (d, r)) in enumerate(names.items(), 1)))
    await store.journal.write(SetRunning(1, "w", "run1", "h", 1, 5.0))
    await store.journal.write(SetEnded(1, JobStatus.DEAD, 7, "why", 6.0, gone=True))
    assert await ids(store, List("dags")) == "dcb"
    assert await ids(store, List("dags", "oldest", limit=1)) == "bc"
    assert await ids(store, List("dags", prefix="x", states=("DEAD",))) == "c"
    assert await ids(store, List("dags", contains="y")) == "d"
    assert await store.count_listed(List("dags")) == 3
    assert await ids(store, List("jobs", dag="x")) == "cba"
    assert await ids(store, List("jobs", dag="x", run="1")) == "ca"
    assert sorted(await store.dag("x", "1")) == [("DEAD", 1, 1.0, 5.0, 6.0), ("PENDING", 1, 3.0, None, None)]


async def test_a_large_submission_is_listed_once_it_is_committed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db", asyncio.get_running_loop())
    await fill(store, job(1, "a"))
    stored = store.journal.write(InsertJobs(tuple(job(n, f"n{n}") for n in range(2, 3000))))
    store.journal.commit()
    seen = []
    while not stored.done():
        seen.append(await store.count_listed(List("jobs")))
        assert await ids(store, List("jobs")) in {"a", "".join(f"n{n}" for n in range(2999, 2898, -1))}
        await asyncio.sleep(0)
    assert set(seen) <= {1, 2999}
    assert 1 in seen
    assert await store.count_listed(List("jobs")) == 2999
    await store.close()


async def test_a_file_of_the_version_before_shows_tags_and_dags(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "db", asyncio.get_running_loop())
    line = json.dumps(["RUN_PAYLOAD", ["a.py", "", "cGFzcw==", "GPU"], 1, 0, [], False])
    await fill(store, *(job(n, name, line=line, submitted_at=1000.0) for n, name in enumerate("abc", 1)))
    await fill(store, job(4, "old", line="no line of a job"))
    await store.close()
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute("DROP INDEX jobs_dag")
        for column in ("tag", "dag", "dag_run"):
            db.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        for run, at, names in (
            ("r1", 990.0, "ab"),
            ("r2", 999.0, "b"),
            ("r3", 9999.0, "c"),
            ("r4", 999.0, "a"),
        ):
            listed = [{"id": name, "nonce": None} for name in names]
            name = "a" if run == "r4" else "x%3Ay"
            text = json.dumps({"submitted_at": at, "jobs": listed})
            db.execute("INSERT INTO kv VALUES (?, ?)", (f"titan:dag:{name}:{run}", text))
    db.close()
    store = SqliteStore(tmp_path / "db", asyncio.get_running_loop())
    rows = {row.job_id: (row.tag, row.dag, row.dag_run) for row in await store.listed(List("jobs"))}
    assert rows == {
        "DAG-a": ("GPU", "x:y", "r1"),
        "DAG-b": ("GPU", "x:y", "r2"),
        "DAG-c": ("GPU", None, None),
        "DAG-old": (None, None, None),
    }
    await store.close()


# ---------------------------------------------------------------------- changes


async def test_each_change_that_is_durable_is_in_the_feed_once_by_its_job(store: Store) -> None:
    feed = store.journal.feed
    known = feed.number(feed.cursor())
    assert known == 0
    await five(store)
    changed, number = feed.since(known, 100)
    assert changed == ["DAG-b", "DAG-d", "DAG-e", "DAG-c", "DAG-a"]
    assert feed.since(number, 100) == ([], number)
    some, place = feed.since(known, 2)
    assert (some, feed.since(place, 100)) == (["DAG-b", "DAG-d"], (["DAG-e", "DAG-c", "DAG-a"], number))
    await store.journal.write(ForgetJobs((("DAG-c", 3),)))
    assert feed.since(number, 100)[0] == ["DAG-c"]


def test_a_cursor_that_is_too_old_or_of_another_master_is_known_as_such() -> None:
    feed = Feed(kept=2)
    first = feed.cursor()
    feed.note(["a", "b"])
    second = feed.cursor()
    assert feed.number(first) == 0
    feed.note(["a", "c"])
    assert (feed.number(first), feed.number(second)) == (None, 2)
    assert feed.since(2, 9) == (["a", "c"], 4)
    feed.note(["d"])
    assert feed.number(second) is None
    newest = feed.cursor()
    assert feed.since(feed.number(newest) or 0, 9)[0] == []
    for wrong in (
        None,
        "",
        "x",
        Feed().cursor(),
        newest + "0",
        newest.replace("-", "--"),
        "-1",
        newest[:-1] + "²",
    ):
        assert feed.number(wrong) is None
