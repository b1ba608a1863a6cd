"""What every store does; each test runs on all of them."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.sdk.cluster.store.opening import Open
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import (
    AddHistory,
    AddMember,
    Delete,
    Expire,
    ForgetJobs,
    InsertJobs,
    Put,
    RemoveMember,
    SetEnded,
    SetGone,
    SetPending,
    SetRunning,
    SetService,
    StoreFailed,
    Swap,
    Sweep,
)
from titan_sdk.cluster.store.rows import KEPT_HISTORY, NewJob, ServiceState
from titan_sdk.model.status import JobStatus

TEXTS = ["", "NULL", "ERROR: x", "a|b\nc", "héllo 日本語 😀", "nul\0inside", " edges ", "x" * 3_000_000]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
async def test_any_text_survives_as_key_value_and_member(store: Store, text: str) -> None:
    await store.journal.write(Put("value", text))
    await store.journal.write(Put(text, "key"))
    assert await store.journal.write(AddMember("set", text))
    assert await store.get("value") == text
    assert await store.get(text) == "key"
    assert await store.members("set") == [text]


async def test_a_member_is_new_once_and_members_keep_their_order(store: Store) -> None:
    added = [await store.journal.write(AddMember("s", member)) for member in ("b", "a", "b", "")]
    assert added == [True, True, False, True]
    assert await store.members("s") == ["b", "a", ""]
    assert await store.members("none") == []


async def test_a_member_can_be_removed_and_a_set_without_any_is_gone(store: Store) -> None:
    write = store.journal.write
    for member in ("a", "b"):
        await write(AddMember("s", member))
    assert [bool(await write(RemoveMember("s", member))) for member in ("a", "a", "x")] == [
        True,
        False,
        False,
    ]
    assert await store.members("s") == ["b"]
    assert await store.keys("", "", -1) == ["s"]
    assert await write(RemoveMember("s", "b"))
    assert await store.keys("", "", -1) == []
    assert not await write(RemoveMember("none", "b"))
    assert await write(AddMember("s", "b"))


async def test_absent_is_none_and_a_value_is_replaced(store: Store) -> None:
    assert await store.get("k") is None
    await store.journal.write(Put("k", "1"))
    await store.journal.write(Put("k", "2"))
    assert await store.get("k") == "2"
    assert await store.members("k") == []


def new_job(job_id: str, seq: int, line: str = "{}", **more: object) -> NewJob:
    values: dict[str, object] = {"parents": (), "service": False, "submitted_at": 1.0, "due": 1.0, **more}
    return NewJob(job_id, seq, line, **values)  # type: ignore[arg-type]


async def test_everything_acknowledged_is_there_after_reopening(open_store: Open) -> None:
    store = await open_store()
    batch = [
        new_job("DAG-a", store.next_seq(), "line a"),
        new_job("DAG-b", store.next_seq(), "line b", parents=(("DAG-a", 1),)),
    ]
    await store.journal.write(InsertJobs(tuple(batch)))
    await store.journal.write(SetRunning(1, "w", "run1", "h", 1, 2.0))
    await store.journal.write(Put("k", "v"))
    await store.close()
    store = await open_store()
    running, waiting = store.table.unfinished()
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


async def test_ending_keeps_the_handle_until_the_process_is_gone(store: Store) -> None:
    await store.journal.write(InsertJobs((new_job("DAG-a", 1),)))
    await store.journal.write(SetRunning(1, "w", "run1", "h", 1, 2.0))
    await store.journal.write(SetEnded(1, JobStatus.CANCELLED, None, "why", 3.0))
    assert [row.handle for row in store.table.ended_but_alive()] == ["h"]
    await store.journal.write(SetGone(1, "another run"))
    assert len(store.table.ended_but_alive()) == 1
    await store.journal.write(SetGone(1, "run1"))
    assert store.table.ended_but_alive() == []
    row = store.job("DAG-a")
    assert row is not None
    assert (row.status, row.reason, row.ended_at) == (JobStatus.CANCELLED, "why", 3.0)


async def test_a_used_id_starts_afresh_and_its_history_stays(store: Store) -> None:
    await store.journal.write(InsertJobs((new_job("DAG-a", 1, "old"),)))
    await store.journal.write(SetEnded(1, JobStatus.DEAD, 1, "why", 3.0))
    await store.journal.write(InsertJobs((new_job("DAG-a", 2, "new"),)))
    row = store.job("DAG-a")
    assert row is not None
    assert (row.seq, row.status, row.reason, row.exit_code) == (2, JobStatus.PENDING, None, None)
    assert store.line(2) == "new"
    assert [entry.event for entry in await store.history("DAG-a")] == ["submitted", "submitted"]


async def test_of_the_history_of_an_id_that_is_used_for_ever_the_latest_part_stays(store: Store) -> None:
    await store.journal.write(InsertJobs((new_job("DAG-a", 1), new_job("DAG-b", 2))))
    for n in range(KEPT_HISTORY + 50):
        store.journal.record(AddHistory("DAG-a", 1, float(n), "event", str(n)))
    await store.journal.write(SetEnded(1, JobStatus.DEAD, 1, "why", 3.0))
    await store.journal.write(InsertJobs((new_job("DAG-a", 3),)))
    history = await store.history("DAG-a")
    assert [entry.detail for entry in history[:-1]] == [str(n) for n in range(50, KEPT_HISTORY + 50)]
    assert history[-1].event == "submitted"
    assert len(await store.history("DAG-b")) == 1


async def test_a_job_of_many_states_is_told_as_it_was(store: Store) -> None:
    """Each kind of change, and what is asked after it."""
    write = store.journal.write
    await write(InsertJobs((new_job("DAG-a", 1, "a"), new_job("DAG-s", 2, "s", service=True))))
    await write(SetRunning(1, "w", "run1", "h1", 1, 2.0), AddHistory("DAG-a", 1, 2.0, "started", "run 1"))
    await write(SetPending(1, 1, 7), AddHistory("DAG-a", 1, 3.0, "queued again", "why"))
    row = store.job("DAG-a")
    assert row is not None
    assert (row.status, row.handle, row.attempts, row.exit_code, row.worker) == ("PENDING", None, 1, 7, "w")
    assert [entry.event for entry in await store.history("DAG-a")] == ["submitted", "started", "queued again"]
    await write(SetRunning(2, "w", "run2", "h2", 1, 4.0), SetService(2, ServiceState.LIVE))
    await write(SetEnded(2, JobStatus.COMPLETED, None, None, 5.0))
    await write(SetRunning(2, "w", "run3", "h3", 2, 6.0))
    assert [(row.job_id, row.status, row.handle) for row in store.table.live_services()] == [
        ("DAG-s", JobStatus.COMPLETED, "h3")
    ]
    assert store.table.ended_but_alive() == []
    assert store.line(2) == "s"
    await write(SetGone(2, "run3"))
    assert [row.handle for row in store.table.live_services()] == [None]
    await write(SetEnded(99, JobStatus.DEAD, 1, "nobody", 9.0))
    assert [row.job_id for row in store.table.unfinished()] == ["DAG-a"]


async def test_a_large_submission_is_stored_whole(open_store: Open) -> None:
    store = await open_store()
    jobs = tuple(new_job(f"DAG-{n}", n + 1, f"line {n}") for n in range(5000))
    await store.journal.write(InsertJobs(jobs))
    await store.close()
    store = await open_store()
    assert [row.job_id for row in store.table.unfinished()] == [job.job_id for job in jobs]
    assert store.line(5000) == "line 4999"
    await store.close()


async def test_jobs_are_forgotten_oldest_first(store: Store) -> None:
    write = store.journal.write
    await write(InsertJobs(tuple(new_job(f"DAG-{n}", n + 1, service=n == 3) for n in range(5))))
    await write(SetService(4, ServiceState.LIVE))
    for n in range(4):
        await write(SetEnded(n + 1, JobStatus.COMPLETED, 0, None, 10.0 - n, gone=True))
    assert await store.finished_before(9.5) == [("DAG-2", 3), ("DAG-1", 2)]
    assert await store.count_finished(11.0) == 3
    await write(ForgetJobs((("DAG-2", 3), ("DAG-1", 2), ("DAG-0", 77))))
    await store.bring(["DAG-0", "DAG-1"])
    assert store.job("DAG-1") is None
    assert store.job("DAG-0") is not None
    assert await store.history("DAG-1") == []
    assert await store.count_finished(11.0) == 1


async def test_the_newest_number_is_never_forgotten(store: Store) -> None:
    await store.journal.write(InsertJobs((new_job("DAG-a", 7),)))
    await store.journal.write(SetEnded(7, JobStatus.DEAD, 1, "why", 1.0, gone=True))
    assert await store.finished_before(5.0) == []


async def test_a_swap_sees_what_was_written_before_it(store: Store) -> None:
    write = store.journal.write
    results = await asyncio.gather(
        write(Swap("k", "absent", "x")),
        write(Swap("k", None, "1")),
        write(Swap("k", None, "2")),
        write(Swap("k", "1", "3")),
    )
    assert [bool(result) for result in results] == [False, True, False, True]
    assert await store.get("k") == "3"
    assert bool(await write(Swap("k", "3", None)))
    assert await store.get("k") is None
    assert await store.keys("", "", -1) == []


async def test_keys_come_in_order_and_in_pages(store: Store) -> None:
    for key in ("b", "a", "ab", "é", "aé", "c\0d"):
        await store.journal.write(Put(key, "v"))
    await store.journal.write(AddMember("ac", "m"))
    assert await store.keys("a", "", -1) == ["a", "ab", "ac", "aé"]
    assert await store.keys("a", "", 2) == ["a", "ab"]
    assert await store.keys("a", "ab", 2) == ["ac", "aé"]
    assert await store.keys("", "b", -1) == ["c\0d", "é"]
    assert await store.keys("x", "", -1) == []


async def test_deleting_and_expiring_take_value_and_set(store: Store) -> None:
    write = store.journal.write
    await write(Put("k", "v"), AddMember("k", "m"))
    assert bool(await write(Delete("k")))
    assert not await write(Delete("k"))
    assert not await write(Expire("k", 10))
    await write(Put("k", "v"), AddMember("k", "m"))
    assert bool(await write(Expire("k", 0.02)))
    while await store.get("k") is not None:  # noqa: ASYNC110 - time passes in the store
        await asyncio.sleep(0.005)
    assert await store.members("k") == []
    assert await store.keys("k", "", -1) == []
    assert await store.count_expired() == 1
    assert await write(Sweep()) == 1
    assert await write(AddMember("k", "m")) in {True}
    assert await store.members("k") == ["m"]


async def test_a_write_takes_an_expiry_back(store: Store) -> None:
    write = store.journal.write
    await write(Put("k", "v"), AddMember("k", "m"), Expire("k", 0.05), Put("k", "again"))
    await write(Put("other", "v"), Expire("other", 0.06))
    while await store.get("other") is not None:  # noqa: ASYNC110 - time passes in the store
        await asyncio.sleep(0.005)
    assert await store.get("k") == "again"
    assert await store.members("k") == ["m"]


async def test_what_no_text_file_can_hold_is_refused_alone(store: Store) -> None:
    bad, good = store.journal.write(Put("k", "half \ud800")), store.journal.write(Put("other", "v"))
    with pytest.raises(StoreFailed, match="surrogates not allowed"):
        await bad
    await good
    assert await store.get("other") == "v"
    with pytest.raises(StoreFailed):
        await store.get("\ud800")


async def test_what_was_written_first_is_durable_first(store: Store) -> None:
    order: list[int] = []
    for number in range(50):
        store.journal.record(Put("k", str(number)), then=lambda number=number: order.append(number))
    await store.journal.write()
    assert order == list(range(50))
    assert await store.get("k") == "49"


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
async def test_a_clock_that_is_set_moves_no_time_to_live(
    open_store: Open, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The master's and, with Redis, that of its server are this machine's: what is stored as a time must not be theirs."""
    store = await open_store()
    write, real = store.journal.write, time.time
    await write(Put("hour", "v"), AddMember("hour", "m"), Expire("hour", 3600), Put("soon", "v"))
    await write(AddMember("soon", "m"), Expire("soon", 0.2))
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    assert await store.get("soon") == "v"
    assert await store.keys("", "", -1) == ["hour", "soon"]
    async with asyncio.timeout(30):
        while await store.get("soon") is not None:  # noqa: ASYNC110 - time passes
            await asyncio.sleep(0.01)
    assert (await store.get("hour"), await store.members("hour")) == ("v", ["m"])
    assert (await store.members("soon"), await store.keys("", "", -1)) == ([], ["hour"])
    assert not await write(Delete("soon"))
    await store.close()


async def test_what_has_expired_is_gone_for_every_change(store: Store) -> None:
    """Also before it is swept: no write brings a part of it back, and none sees it."""
    write = store.journal.write
    for number in range(6):
        await write(Put(f"k{number}", "v"), AddMember(f"k{number}", "m"), Expire(f"k{number}", 0.001))
    while await store.get("k5") is not None:  # noqa: ASYNC110 - time passes in the store
        await asyncio.sleep(0.001)
    await write(Put("k0", "again"))
    assert (await store.get("k0"), await store.members("k0")) == ("again", [])
    assert not await write(Swap("k1", "v", "w"))
    assert await write(Swap("k1", None, "w"))
    assert (await store.get("k1"), await store.members("k1")) == ("w", [])
    assert await write(AddMember("k2", "m"))
    assert (await store.get("k2"), await store.members("k2")) == (None, ["m"])
    assert not await write(RemoveMember("k3", "m"))
    assert not await write(Delete("k4"))
    assert not await write(Expire("k5", 10))
    assert await store.keys("", "", -1) == ["k0", "k1", "k2"]
