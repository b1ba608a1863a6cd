"""When a manifest and a job's values go, and what never does; each test runs on every store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from titan_sdk.cluster.artifacts import open_area
from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.logs import FileLogs
from titan_sdk.cluster.retention import forget_jobs, forget_manifests
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import (
    ForgetJobs,
    InsertJobs,
    Put,
    SetEnded,
    SetRunning,
    SetService,
)
from titan_sdk.cluster.store.rows import NewJob, ServiceState
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.fields import encode_key

DAY = 86_400.0


async def submit(
    store: Store, dag: str, run: str, *jobs: str, nonce: str | None = None, after: float = 0.0
) -> None:
    """What the SDK writes first, so many seconds from now: the manifest, and what names it."""
    entries = [{"id": job, "nonce": nonce, "parents": []} for job in jobs]
    at = store.clock.now() + after
    manifest = {"v": 1, "name": dag, "run": run, "submitted_at": at, "agent_run_id": None, "jobs": entries}
    latest = "titan:dag:" + dag.replace("%", "%25").replace(":", "%3A")
    await store.journal.write(Put(encode_key(f"{latest}:{run}"), json.dumps(manifest)))
    await store.journal.write(Put(encode_key(latest), json.dumps({"v": 1, "run": run})))


async def insert(store: Store, *jobs: str, after: float = 0.0) -> None:
    """What the master then stores, so many seconds later."""
    for job in jobs:
        at = store.clock.now() + after
        row = NewJob(f"DAG-{job}", store.next_seq(), "{}", (), False, at, at)
        await store.journal.write(InsertJobs((row,)))


async def end(store: Store, job: str, ended_at: float) -> None:
    row = store.job(f"DAG-{job}")
    assert row is not None
    await store.journal.write(SetEnded(row.seq, JobStatus.COMPLETED, 0, None, ended_at, gone=True))


async def forget(store: Store, job: str) -> None:
    row = store.job(f"DAG-{job}")
    assert row is not None
    await store.journal.write(ForgetJobs(((row.job_id, row.seq),)))


async def left(store: Store, in_days: float, *, keep: float = 30.0) -> list[str]:
    """What the rule leaves, in so many days from now."""
    await forget_manifests(store.clock.now() + (in_days - keep) * DAY, store)
    return await store.keys("", "", -1)


async def test_of_a_dag_of_plain_jobs_nothing_stays_when_its_jobs_are_forgotten(store: Store) -> None:
    for dag in ("nightly", "a:b|c%", "größe"):
        await submit(store, dag, "r1", "a", "b")
    await insert(store, "a", "b")
    for job in ("a", "b"):
        await end(store, job, store.clock.now())
        await forget(store, job)
    assert len(await left(store, 29.9)) == 6
    assert await left(store, 30.1) == []


async def test_a_submission_that_was_refused_leaves_nothing(store: Store) -> None:
    await submit(store, "refused", "r1", "a", "b", nonce="r1")
    for job in ("a", "b"):
        await store.journal.write(
            Put(f"titan:job:DAG-{job}", json.dumps({"v": 1, "nonce": "r1", "dag": "refused"})),
            Put(f"titan:run:DAG-{job}:r1:lease", "{}"),
        )
    assert await left(store, 30.1) == []


async def test_one_that_is_not_old_enough_stays_although_no_job_is_known_yet(store: Store) -> None:
    await submit(store, "d", "r1", "a")
    assert len(await left(store, 0.0, keep=0.01)) == 2
    # Written anew, it is new.
    await submit(store, "d", "r1", "a", after=DAY)
    assert len(await left(store, 30.9)) == 2
    assert await left(store, 31.1) == []


async def test_an_unfinished_job_keeps_it_however_old_it_is(store: Store) -> None:
    await submit(store, "d", "r1", "a", "b", "c")
    await insert(store, "a", "b", "c")
    await end(store, "a", store.clock.now())
    await end(store, "c", store.clock.now())
    for job in ("a", "c"):
        await forget(store, job)
    for days in (31.0, 62.0, 1000.0):
        assert await left(store, days) == ["titan:dag:d", "titan:dag:d:r1"]
    row = store.job("DAG-b")
    assert row is not None
    await store.journal.write(SetRunning(row.seq, "w", "run", "h", 1, store.clock.now()))
    assert await left(store, 2000.0) == ["titan:dag:d", "titan:dag:d:r1"]


async def test_a_remembered_job_keeps_it_until_it_is_forgotten(store: Store) -> None:
    await submit(store, "d", "r1", "a", "b")
    await insert(store, "a", "b")
    await end(store, "a", store.clock.now() + 5 * DAY)
    await end(store, "b", store.clock.now() + 1 * DAY)
    kept = ["titan:dag:d", "titan:dag:d:r1"]
    assert await left(store, 30.5) == kept
    await forget(store, "b")
    assert await left(store, 34.9) == kept
    await forget(store, "a")
    assert await left(store, 35.1) == []


async def test_a_job_that_may_not_be_forgotten_keeps_it(store: Store) -> None:
    await submit(store, "service", "r1", "a")
    await insert(store, "a")
    row = store.job("DAG-a")
    assert row is not None
    await store.journal.write(SetService(row.seq, ServiceState.LIVE))
    await end(store, "a", store.clock.now())
    for days in (31.0, 31.1, 100.0):
        assert await left(store, days) == ["titan:dag:service", "titan:dag:service:r1"]


async def test_a_later_submission_under_the_same_id_does_not_keep_it(store: Store) -> None:
    """Also not what its runtime left, which the id's own end would never lead to."""
    for run, day in (("r1", 0), ("r2", 20)):
        await submit(store, "daily", run, "a", nonce=run, after=day * DAY)
        await insert(store, "a", after=day * DAY)
        await store.journal.write(
            Put("titan:job:DAG-a", json.dumps({"v": 1, "nonce": run, "dag": "daily"})),
            Put(f"titan:run:DAG-a:{run}:state", "{}"),
        )
        await end(store, "a", store.clock.now() + day * DAY)
    of_second = ["titan:dag:daily:r2", "titan:job:DAG-a", "titan:run:DAG-a:r2:state"]
    assert await left(store, 30.1) == ["titan:dag:daily", *of_second]
    await forget(store, "a")
    assert await left(store, 50.1) == []


async def test_a_clients_clock_does_not_take_the_manifest_of_a_job_that_is_known(store: Store) -> None:
    """Of jobs with the runtime the record tells; of plain ones the times do, which may differ by minutes."""
    await submit(store, "behind", "r1", "a", nonce="r1", after=-20 * DAY)
    await store.journal.write(Put("titan:job:DAG-a", json.dumps({"v": 1, "nonce": "r1", "dag": "behind"})))
    await insert(store, "a")
    await end(store, "a", store.clock.now())
    assert await left(store, 20.0) == ["titan:dag:behind", "titan:dag:behind:r1", "titan:job:DAG-a"]


async def test_a_submission_may_come_minutes_after_its_manifest(store: Store) -> None:
    await submit(store, "d", "r1", "a")
    await insert(store, "a", after=300.0)
    await end(store, "a", store.clock.now() + 20 * DAY)
    assert await left(store, 31.0) == ["titan:dag:d", "titan:dag:d:r1"]


async def test_the_latest_one_is_named_while_it_is_there(store: Store) -> None:
    await submit(store, "d", "r1", "a")
    await submit(store, "d", "r2", "b")
    await insert(store, "a", "b")
    await end(store, "a", store.clock.now())
    await forget(store, "a")
    assert await left(store, 30.1) == ["titan:dag:d", "titan:dag:d:r2"]
    await end(store, "b", store.clock.now())
    await forget(store, "b")
    assert await left(store, 61.0) == []


async def test_a_name_of_what_is_gone_goes(store: Store) -> None:
    await store.journal.write(Put("titan:dag:d", '{"v": 1, "run": "r1"}'))
    assert await left(store, 30.1) == []


async def test_what_is_not_ours_stays(store: Store) -> None:
    foreign: dict[str, Any] = {
        "titan:dag:a": "1",
        "titan:dag:a:1": "no JSON",
        "titan:dag:b:1": "[]",
        "titan:dag:c:1": '{"jobs": "a"}',
        "titan:dag:d:1": '{"jobs": [{"name": 1}]}',
        "titan:dag:e:1": '{"jobs": ["a"]}',
        '~t1~"titan:dag:': "half an escape",
        "titan:dagger": "another",
    }
    for key, value in foreign.items():
        await store.journal.write(Put(key, value))
    assert await left(store, 30.1) == sorted(foreign)


async def test_thousands_that_are_due_at_once_all_go(store: Store) -> None:
    for number in range(1000):
        store.journal.write(Put(f"titan:dag:d{number}:1", '{"jobs": [{"id": "a"}], "submitted_at": 1}'))
    await store.journal.write()
    assert await left(store, 30.1) == []


async def forget_ended(store: Store, folder: Path, before: float) -> None:
    data = DataDir(folder)
    try:
        uploads = open_area((folder / "uploads").as_uri(), "uploads", folder)
        await forget_jobs(before, store, FileLogs(data, 1024), data, uploads)
    finally:
        data.release()


async def test_what_a_finished_job_left_goes_with_it(store: Store, tmp_path: Path) -> None:
    await insert(store, "a", "b", "newest")
    for job in ("a", "b"):
        await end(store, job, 10.0 if job == "a" else 20.0)
        await store.journal.write(
            Put(f"titan:job:DAG-{job}", '{"nonce": "x"}'), Put(f"titan:run:DAG-{job}:x:log", "said")
        )
    await store.journal.write(Put("other", "stays"), Put("titan:run:DAG-ab:x", "another job's"))
    await forget_ended(store, tmp_path / "data", 15.0)
    assert store.job("DAG-a") is None
    kept = ["other", "titan:job:DAG-b", "titan:run:DAG-ab:x", "titan:run:DAG-b:x:log"]
    assert await store.keys("", "", -1) == kept


async def test_what_a_submission_under_way_has_written_of_a_used_id_is_not_forgotten(
    store: Store, tmp_path: Path
) -> None:
    await insert(store, "0", "1", "newest")
    for n in range(2):
        await end(store, str(n), 10.0)
        await store.journal.write(
            Put(f"titan:job:DAG-{n}", f'{{"nonce": "x", "submitted_at": {9 + 2 * n}}}'),
            Put(f"titan:run:DAG-{n}:x:lease", "{}"),
        )
    await forget_ended(store, tmp_path / "data", 15.0)
    assert store.job("DAG-0") is store.job("DAG-1") is None
    assert await store.keys("titan:", "", -1) == ["titan:job:DAG-1", "titan:run:DAG-1:x:lease"]


TEXTS = [
    "[" * 200_000,
    '{"a":' * 100_000,
    "9" * 10_000,
    "null",
    "NaN",
    '{"run": "\\ud800", "jobs": [{"id": "\\ud800", "nonce": "\\udfff"}], "nonce": "\\ud800", "submitted_at": 1e400}',
    '{"run": [], "jobs": [[], {"id": {}}, {"id": null, "nonce": {}}], "nonce": 7, "submitted_at": "1"}',
    '{"jobs": [{"id": "a"}, {"id": ["a"], "nonce": ["n"]}], "submitted_at": -1e400}',
    '{"jobs": {"id": "a"}, "submitted_at": NaN}',
    '{"jobs": [{"id": "\\u0000", "nonce": "%"}]}',
]
"""What anybody may have stored where the SDK keeps its records; the last ones are almost as it writes them."""
KEYS = [
    "titan:dag:x",
    "titan:dag:x:1",
    '~t1~"titan:dag:x"',
    '~t1~"titan:dag:\\ud800:1"',
    '~t1~"titan:dag:' + "[" * 9,
]


async def test_no_text_that_anybody_stored_ends_retention(store: Store, tmp_path: Path) -> None:
    old = store.clock.now() - 60 * DAY
    for number, text in enumerate(TEXTS):
        await insert(store, f"j{number}")
        await end(store, f"j{number}", old)
        await store.journal.write(Put(f"titan:job:DAG-j{number}", text))
        for key in KEYS:
            await store.journal.write(Put(f"{key}{number}", text))
        await submit(store, f"good{number}", "r1", f"j{number}")
    await insert(store, "newest")
    for _ in range(2):
        await forget_ended(store, tmp_path / "data", store.clock.now() - DAY)
        assert not [key for key in await left(store, 40.0) if "good" in key]
    assert [store.job(f"DAG-j{number}") for number in range(len(TEXTS))] == [None] * len(TEXTS)
