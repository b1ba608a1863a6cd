"""What a Redis can do to a master, with a real one: refuse, forget, stand still, belong to somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.cluster.store.opening import opened
from tests.support.redis_server import RedisServer
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.store import journal as pace
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import (
    AddHistory,
    Delete,
    Expire,
    ForgetJobs,
    InsertJobs,
    Put,
    SetEnded,
    SetRunning,
    StoreFailed,
)
from titan_sdk.cluster.store.redis.client import RedisClient
from titan_sdk.cluster.store.redis.location import Location
from titan_sdk.cluster.store.redis.logs import RedisLogs
from titan_sdk.cluster.store.redis.store import open_redis
from titan_sdk.cluster.store.rows import NewJob
from titan_sdk.errors import InvalidArgument, TitanError
from titan_sdk.model.status import JobStatus

KINDS = ("log", "logmarks", "history")
"""Of the keys that a job has for itself."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "RETRY_SECONDS", 0.05)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """One to be killed."""
    made = RedisServer(tmp_path / "redis").start()
    yield made
    made.stop()


@pytest.fixture
def location(redis_server: RedisServer) -> Location:
    """Its lease is renewed so rarely that no renewal comes between two statements of a test."""
    return Location(redis_server.url, uuid.uuid4().hex, lease_seconds=3600)


# ---------------------------------------------------------------------- one master at a time


async def test_a_second_master_is_told_who_has_it_and_for_how_long(redis_server: RedisServer) -> None:
    location = Location(redis_server.url, uuid.uuid4().hex, lease_seconds=6)
    async with opened(location):
        with pytest.raises(
            TitanError,
            match=r"another master \(process \d+ on .* since .*\) uses redis://.*renewed its lease",
        ):
            await open_redis(location)


async def test_a_lease_that_is_given_back_is_free_at_once(redis_server: RedisServer) -> None:
    patient = Location(redis_server.url, uuid.uuid4().hex, lease_seconds=3600)
    async with opened(patient) as store:
        await store.journal.write(Put("k", "v"))
    async with opened(patient) as store:
        assert await store.get("k") == "v"


async def test_a_master_that_asks_for_its_lease_twice_has_it_once(location: Location) -> None:
    """As when the reply was lost, and the library sends the request again."""
    client = RedisClient(location)
    words = ("acquire", "token", 3_600_000, "{}", "2", "1", b"", 0)
    try:
        first, second = await client.run(*words), await client.run(*words)
        assert int(first[1]) == int(second[1]) == 1
        assert (await client.run("acquire", "another", *words[2:]))[0] == b"held"
        await client.run("release", "token")
    finally:
        await client.close()


async def test_who_lost_the_lease_writes_nothing_and_is_told(
    location: Location, redis_server: RedisServer
) -> None:
    reasons: list[str] = []
    async with opened(location) as old:
        old.on_lost(reasons.append)
        await old.journal.write(Put("k", "old"))
        redis_server.say("DEL", f"{location.prefix}:lease")
        async with opened(location) as new:
            late = [old.journal.write(Put("k", "late")), old.journal.write(Delete("k"))]
            old.journal.record(AddHistory("DAG-a", 1, 1.0, "late", ""))
            for write in late:
                with pytest.raises(StoreFailed, match=r"another master \(process .*\) has taken over"):
                    await write
            await new.journal.write()
            assert await new.get("k") == "old"
            assert await new.history("DAG-a") == []
            assert len(reasons) == 1
            with pytest.raises(StoreFailed, match="has taken over"):
                await old.journal.write(Put("k", "later still"))
            assert await new.get("k") == "old"


async def test_a_lease_that_ran_out_while_nobody_came_is_taken_again(
    location: Location, redis_server: RedisServer
) -> None:
    async with opened(location) as store:
        redis_server.say("DEL", f"{location.prefix}:lease")
        await store.journal.write(Put("k", "v"))
        assert b"token" in redis_server.say("HGETALL", f"{location.prefix}:lease")


async def test_a_store_that_was_emptied_is_left_alone(server: RedisServer) -> None:
    async with opened(Location(server.url)) as store:
        server.say("FLUSHALL")
        with pytest.raises(StoreFailed, match="was emptied or restored while this master used it"):
            await store.journal.write(Put("k", "v"))
        assert server.say("DBSIZE") == b":0\r\n"


# ---------------------------------------------------------------------- outages


async def submit_job(store: Store) -> None:
    """A job of which there may be a history, which begins with this."""
    await store.journal.write(InsertJobs((NewJob("DAG-a", 1, "", (), False, -1.0, -1.0),)))


async def test_while_it_is_down_clients_are_told_and_the_masters_own_records_keep_their_order(
    server: RedisServer,
) -> None:
    async with opened(Location(server.url)) as store:
        await store.journal.write(Put("before", "v"))
        await submit_job(store)
        server.kill()
        with pytest.raises(StoreFailed):
            await store.get("before")  # from here on it is known that the connections are gone
        order: list[int] = []
        for number in range(20):
            store.journal.record(
                AddHistory("DAG-a", 1, float(number), "event", ""),
                then=lambda number=number: order.append(number),
            )
        with pytest.raises(StoreFailed, match=r"the store redis://127.0.0.1:\d+/0 cannot be reached"):
            await store.journal.write(Put("k", "refused"))
        with pytest.raises(StoreFailed, match="cannot be reached"):
            await store.get("before")
        server.start()
        while len(order) < 20:  # noqa: ASYNC110 - the store tries again by itself
            await asyncio.sleep(0.01)
        assert order == list(range(20))
        assert [entry.at for entry in await store.history("DAG-a")] == [-1.0, *map(float, range(20))]
        assert await store.get("k") is None
        await store.journal.write(Put("k", "taken"))
        assert await store.get("before") == "v"


async def test_every_acknowledged_write_survives_kills_and_is_done_once(server: RedisServer) -> None:
    """Killed under load: what was acknowledged is there, what was in flight is there once or not at all."""
    async with opened(Location(server.url)) as store:
        await submit_job(store)
        acknowledged: list[str] = []
        stop = asyncio.Event()

        async def client(name: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    await store.journal.write(AddHistory("DAG-a", 1, 0.0, f"{name}-{number}", ""))
                    acknowledged.append(f"{name}-{number}")
                except StoreFailed:
                    await asyncio.sleep(0.01)

        clients = [asyncio.create_task(client(name)) for name in range(5)]
        for _ in range(4):
            seen = len(acknowledged)
            while len(acknowledged) < seen + 50:  # noqa: ASYNC110 - what is waited for is load
                await asyncio.sleep(0.001)
            server.kill()
            await asyncio.sleep(0.02)
            server.start()
        stop.set()
        await asyncio.gather(*clients)
        while True:
            with contextlib.suppress(StoreFailed):
                await store.journal.write()
                break
        events = [entry.event for entry in await store.history("DAG-a")]
        assert len(events) == len(set(events))
        assert set(acknowledged) <= set(events)


async def test_a_server_that_forgot_acknowledged_commits_stops_the_master_and_the_next_one_asks(
    server: RedisServer,
) -> None:
    reasons: list[str] = []
    words = r"has lost commits \d+ to \d+, which it had acknowledged"
    async with opened(Location(server.url)) as store:
        store.on_lost(reasons.append)
        await store.journal.write(Put("first", "1"))
        await submit_job(store)
        with server.losing():
            for number in range(10):
                await store.journal.write(AddHistory("DAG-a", 1, float(number), "event", ""))
        own: list[str] = []
        store.journal.record(AddHistory("DAG-a", 1, 99.0, "event", ""), then=lambda: own.append("stored"))
        while not reasons:  # noqa: ASYNC110 - the journal tries by itself
            await asyncio.sleep(0.01)
        with pytest.raises(StoreFailed, match=words):
            await store.journal.write(Put("last", "1"))
        assert (len(reasons), own) == (1, [])
    for _ in range(2):
        with pytest.raises(TitanError, match=rf"{words} .*start with --accept-lost-commits"):
            await open_redis(Location(server.url))
    async with opened(Location(server.url, accept_lost_commits=True)) as store:
        assert [entry.at for entry in await store.history("DAG-a")] == [-1.0]
        await store.journal.write(Put("k", "goes on"))
    async with opened(Location(server.url)) as store:
        assert (await store.get("first"), await store.get("k")) == ("1", "goes on")


async def test_a_reply_that_is_lost_is_asked_for_again(server: RedisServer) -> None:
    async with opened(Location(server.url)) as store:
        await submit_job(store)
        writes = [
            store.journal.write(AddHistory("DAG-a", 1, float(number), "event", "")) for number in range(3)
        ]
        await asyncio.sleep(0)
        server.say("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.gather(*writes)
        assert len(await store.history("DAG-a")) == 4


# ---------------------------------------------------------------------- what a server may refuse


async def test_a_full_memory_refuses_clients_and_keeps_the_masters_own_records(server: RedisServer) -> None:
    async with opened(Location(server.url)) as store:
        await store.journal.write(Put("big", "x" * 1_000_000))
        await submit_job(store)
        server.say("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreFailed, match=r"the memory of the store .* is full"):
            await store.journal.write(Put("k", "v"))
        recorded = asyncio.Event()
        store.journal.record(SetEnded(1, JobStatus.COMPLETED, 0, None, 1.0, gone=True), then=recorded.set)
        with pytest.raises(StoreFailed, match=r"the memory of the store .* is full"):
            await store.journal.write(Put("k", "v"))
        row = store.job("DAG-a")
        assert row is not None
        assert (row.status, recorded.is_set()) == ("COMPLETED", False)
        assert await store.get("big") == "x" * 1_000_000
        server.say("CONFIG", "SET", "maxmemory", "0")
        await asyncio.wait_for(recorded.wait(), 30)
        await store.journal.write(Put("k", "v"))


async def test_a_replica_is_refused(server: RedisServer) -> None:
    server.say("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(TitanError, match="is a replica, which cannot be written; name the primary"):
        await open_redis(Location(server.url))


async def test_a_primary_that_becomes_a_replica_refuses_with_a_sentence(server: RedisServer) -> None:
    async with opened(Location(server.url)) as store:
        server.say("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreFailed, match="is a replica"):
            await store.journal.write(Put("k", "v"))
        server.say("REPLICAOF", "NO", "ONE")


async def test_a_wrong_password_is_a_sentence_that_does_not_tell_it(server: RedisServer) -> None:
    server.say("CONFIG", "SET", "requirepass", "right-one")
    for location in (Location(server.url), Location(server.url.replace("//", "//:wrong-one@"))):
        with pytest.raises(TitanError, match="does not take the password") as refused:
            await open_redis(location)
        assert "wrong-one" not in str(refused.value)
    async with opened(Location(server.url, password="right-one")) as store:
        await store.journal.write(Put("k", "v"))


async def test_nobody_there_is_a_sentence() -> None:
    with pytest.raises(TitanError, match=r"the store redis://127.0.0.1:1/0 cannot be reached .*; start it"):
        await open_redis(Location("redis://127.0.0.1:1/0"))


async def test_settings_that_lose_data_are_warned_about(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.say("CONFIG", "SET", "appendonly", "no")
    server.say("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with caplog.at_level(logging.WARNING):
        async with opened(Location(server.url)):
            pass
    assert "keeps no append-only file" in caplog.text
    assert "may throw keys away when its memory is full (maxmemory-policy allkeys-lru)" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [("appendfsync", "everysec"), ("appendonly", "no"), ("no-appendfsync-on-rewrite", "yes")],
)
async def test_full_durability_wants_a_server_that_writes_before_it_answers(
    server: RedisServer, name: str, value: str
) -> None:
    location = Location(server.url)
    server.say("CONFIG", "SET", name, value)
    with pytest.raises(
        TitanError, match=f"has {name} {value}, .* run it with {name} (yes|always|no), or leave"
    ):
        await open_redis(location, synced=True)
    async with opened(location):  # the refused one has left no lease
        pass


async def test_full_durability_says_that_a_server_does_not_tell(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.say(
        "ACL",
        "SETUSER",
        "front",
        "on",
        ">pw",
        "~titan",
        "~titan:*",
        "+@all",
        "-@admin",
        "-@dangerous",
        "+info",
    )
    with caplog.at_level(logging.WARNING):
        await (await open_redis(Location(server.url.replace("//", "//front:pw@")), synced=True)).close()
    assert "does not allow reading its settings (CONFIG GET)" in caplog.text
    assert (
        "appendonly yes, appendfsync always, no-appendfsync-on-rewrite no, or allow its user +config|get"
        in caplog.text
    )
    caplog.clear()
    server.say("ACL", "SETUSER", "front", "+config|get")
    with caplog.at_level(logging.WARNING):
        await (await open_redis(Location(server.url.replace("//", "//front:pw@")), synced=True)).close()
    assert caplog.text == ""


async def test_another_format_is_refused(redis_server: RedisServer) -> None:
    location = Location(redis_server.url, uuid.uuid4().hex)
    redis_server.say("SET", f"{location.prefix}:format", "99")
    with pytest.raises(TitanError, match="has format 99; this version reads format 2 or older"):
        await open_redis(location)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"store": "http://host"}, "is no URL of a Redis; write redis://host:6379/0"),
        ({"store": "redis://:secret@host", "store_prefix": " "}, "is empty or has spaces"),
        ({"store": "redis://host", "store_lease_seconds": 0}, "is shorter than 0.2 s"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        ClusterSettings(tmp_path, **settings)  # type: ignore[arg-type]


def test_no_repr_shows_a_password(tmp_path: Path) -> None:
    settings = ClusterSettings(tmp_path, store="redis://me:secret@host/0", store_password="secret2")
    location = settings.store_location()
    assert location is not None
    assert "secret" not in repr(settings) + repr(location) + location.shown
    assert location.shown == "redis://***@host/0"


# ---------------------------------------------------------------------- memory of the master, logs


async def test_payloads_of_ended_jobs_are_not_kept(location: Location, redis_server: RedisServer) -> None:
    async with opened(location) as store:
        await store.journal.write(InsertJobs((NewJob("DAG-a", 1, "x" * 1000, (), False, 1.0, 1.0),)))
        assert redis_server.say("HLEN", f"{location.prefix}:lines") == b":1\r\n"
        await store.journal.write(SetEnded(1, JobStatus.COMPLETED, 0, None, 2.0, gone=True))
        assert redis_server.say("HLEN", f"{location.prefix}:lines") == b":0\r\n"
        with pytest.raises(StoreFailed):
            store.line(1)


async def test_rows_of_jobs_that_are_over_are_read_when_they_are_asked_for(location: Location) -> None:
    names = [f"DAG-{n}" for n in range(2500)]
    async with opened(location) as store:
        await store.journal.write(
            InsertJobs(tuple(NewJob(name, seq, "", (), False, 1.0, 1.0) for seq, name in enumerate(names, 1)))
        )
        for seq in range(1, 2400):
            store.journal.record(SetEnded(seq, JobStatus.COMPLETED, 0, None, 2.0, gone=True))
        await store.journal.write()
        assert len(store.table.rows()) == 101
        assert store.job("DAG-0") is not None
    async with opened(location) as store:
        assert [store.is_at_hand(name) for name in ("DAG-0", "DAG-2399", "DAG-2400", "nobody")] == [
            False,
            True,
            True,
            False,
        ]
        await store.bring([*names, "nobody", "half \ud83d"])
        rows = [store.job(name) for name in names]
        assert [row and row.seq for row in rows] == list(range(1, 2501))
        assert store.job("nobody") is store.job("half \ud83d") is None
        assert store.is_at_hand("nobody")
        await store.journal.write(ForgetJobs((("DAG-0", 1), ("DAG-1", 99))))
        await store.journal.write(InsertJobs((NewJob("DAG-2", 9000, "", (), False, 3.0, 3.0),)))
        assert not store.is_at_hand("DAG-0")
        await store.bring(names)
        found = [store.job(name) for name in names[:3]]
        assert [row and row.seq for row in found] == [None, 2, 9000]


async def test_a_row_that_is_forgotten_while_it_is_read_is_not_kept(location: Location) -> None:
    async with opened(location) as store:
        await submit_job(store)
        await store.journal.write(SetEnded(1, JobStatus.COMPLETED, 0, None, 2.0, gone=True))
    async with opened(location) as store:
        for _ in range(20):
            forgotten = store.journal.write(ForgetJobs((("DAG-a", 1),)))
            await asyncio.gather(store.bring(["DAG-a"]), forgotten)
            await store.bring(["DAG-a"])
            assert store.job("DAG-a") is None


async def test_the_payload_of_a_job_whose_process_is_not_gone_stays(location: Location) -> None:
    """The next master ends that process, and needs it for that."""
    async with opened(location) as store:
        await store.journal.write(InsertJobs((NewJob("DAG-a", 1, "line", (), False, 1.0, 1.0),)))
        await store.journal.write(SetRunning(1, "w", "run", "h", 1, 2.0))
        await store.journal.write(SetEnded(1, JobStatus.CANCELLED, None, "why", 3.0))
    async with opened(location) as store:
        assert [(row.job_id, store.line(row.seq)) for row in store.table.ended_but_alive()] == [
            ("DAG-a", "line")
        ]


async def test_what_the_format_before_had_is_taken_over(
    location: Location, redis_server: RedisServer
) -> None:
    """As the version before wrote it: every row in one hash, a payload without its job, an index of manifests."""

    def say(name: str, *words: str) -> None:
        command, _, key = name.partition(" ")
        redis_server.say(command, f"{location.prefix}:{key}", *words)

    ended = '"DEAD",[["DAG-p",3]],2,"w","7.2.x",null,9,"why",0,1.5,1.5,2.5,3.5]'
    rows = {
        "DAG-ended": f"[7,{ended}",
        "DAG-newest": f"[9,{ended}",
        "DAG-queued": '[4,"PENDING",[["DAG-ended",7]],0,null,null,null,null,null,0,1.25,1.25,null,null]',
        "DAG-runs": '[3,"RUNNING",[],1,"w","3.1.x","handle",null,null,0,1.25,1.25,2.25,null]',
        "DAG-killed": '[5,"CANCELLED",[],1,"w","5.1.x","handle",null,"why",0,1.25,1.25,2.25,3.25]',
        "DAG-service": '[6,"COMPLETED",[],1,"w","6.1.x","handle",null,null,2,1.25,1.25,2.25,3.25]',
        "DAG-stopped": '[8,"COMPLETED",[],1,"w","8.1.x",null,null,null,1,1.25,1.25,2.25,3.25]',
    }
    say("SET format", "1")
    say("SET identity", "the-same")
    say("SET epoch", "3")
    say("HSET last", "number", "12", "begun", "12", "results", "{}")
    for job_id, row in rows.items():
        say("HSET jobs", job_id, row)
        say(f"RPUSH history:{job_id}", '[1.25,"submitted",""]')
    for number, line in ((3, "runs"), (4, "queued"), (6, "service"), (99, "nobody")):
        say("HSET lines", str(number), line)
    for job_id in ("DAG-ended", "DAG-newest", "DAG-stopped"):
        say("ZADD ended", "3.5", job_id)
    say("SET value:k", "v")
    say("ZADD keys", "0", "k")
    say("ZADD set:s", "1", "m")
    say("ZADD keys", "0", "s")
    say("SET added", "1")
    say("ZADD manifests", "1.0", "titan:dag:x")
    for _ in range(2):
        async with opened(location) as store:
            assert [row.job_id for row in store.table.unfinished()] == ["DAG-runs", "DAG-queued"]
            assert [row.job_id for row in store.table.ended_but_alive()] == ["DAG-killed"]
            assert [row.job_id for row in store.table.live_services()] == ["DAG-service"]
            assert [store.line(seq) for seq in (3, 4, 6)] == ["runs", "queued", "service"]
            row = store.job("DAG-ended")
            assert row is not None
            assert (row.status, row.seq, row.parents, row.reason) == ("DEAD", 7, (("DAG-p", 3),), "why")
            assert await store.finished_before(4.0) == [("DAG-ended", 7), ("DAG-stopped", 8)]
            assert (store.identity, store.next_seq()) == ("the-same", 10)
            assert [entry.event for entry in await store.history("DAG-ended")] == ["submitted"]
            assert (await store.get("k"), await store.members("s")) == ("v", ["m"])
            await store.journal.write(Put("k", "v"))
    assert redis_server.say("HKEYS", f"{location.prefix}:lines").count(b"$") == 3
    assert redis_server.say("EXISTS", f"{location.prefix}:manifests") == b":0\r\n"
    assert b"2" in redis_server.say("GET", f"{location.prefix}:format")


async def test_a_log_goes_with_its_job_and_not_with_an_earlier_one_of_its_name(
    location: Location, redis_server: RedisServer
) -> None:
    """Whoever forgets the jobs, ``titan gc`` for one, need not know where their logs are."""
    async with opened(location) as store:
        logs = RedisLogs(store.client, store.journal, 1024)
        jobs = (NewJob(f"DAG-{name}", seq, "", (), False, 1.0, 1.0) for seq, name in enumerate("ab", 1))
        await store.journal.write(InsertJobs(tuple(jobs)))
        for name in ("DAG-a", "DAG-b"):
            await logs.append(name, "run", 0, b"said")
        await store.journal.write(ForgetJobs((("DAG-a", 1), ("DAG-b", 1))))
        assert [await logs.read(name) for name in ("DAG-a", "DAG-b")] == ["", "said"]
    assert redis_server.say("EXISTS", *(f"{location.prefix}:{kind}:DAG-a" for kind in KINDS)) == b":0\r\n"
    assert redis_server.say("EXISTS", *(f"{location.prefix}:{kind}:DAG-b" for kind in KINDS)) == b":3\r\n"


async def test_logs_in_redis_outlive_the_master_and_are_appended_once(location: Location) -> None:
    async with opened(location) as store:
        logs = RedisLogs(store.client, store.journal, 1024)
        assert await logs.append("j", "run1", 0, b"one\n") == 4
        assert await logs.append("j", "run1", 2, b"e\ntwo\n") == 8
        assert await logs.append("j", "run1", 99, b"gap") == 8
        logs.note("j", "queued again")
    async with opened(location) as store:
        logs = RedisLogs(store.client, store.journal, 1024)
        assert await logs.append("j", "run1", 4, b"two\n") == 8
        assert await logs.append("j", "run2", 0, b"next\n") == 5
        assert await logs.read("j") == "one\ntwo\n[titan] queued again\nnext\n"
        assert await logs.append("j", "run2", 5, b"x" * 5000) == 5005
        assert "has reached its limit of 1,024 bytes" in await logs.read("j")
        data, size = await logs.read_range("j", 4, 4)
        assert data == b"two\n"
        assert size > 1024


async def test_a_log_in_redis_gives_way_when_its_id_is_submitted_again_and_not_before(
    location: Location,
) -> None:
    async with opened(location) as store:
        logs = RedisLogs(store.client, store.journal, 1024)
        await submit_job(store)
        assert await logs.append("DAG-a", "run1", 0, b"first") == 5
        logs.drop("DAG-a")
        assert await logs.read("DAG-a") == "first"
        await store.journal.write(InsertJobs((NewJob("DAG-a", 2, "", (), False, 2.0, 2.0),)))
        assert await logs.read("DAG-a") == ""
        assert await logs.append("DAG-a", "run1", 0, b"new") == 3
        assert await logs.read("DAG-a") == "new"


async def test_there_is_no_history_of_what_was_not_taken(location: Location) -> None:
    async with opened(location) as store:
        await submit_job(store)
        await store.journal.write(AddHistory("DAG-a", 2, 2.0, "started", "of a submission that was refused"))
        await store.journal.write(AddHistory("DAG-new", 3, 2.0, "started", "so was this one"))
        assert [entry.event for entry in await store.history("DAG-a")] == ["submitted"]
        assert await store.history("DAG-new") == []


async def test_a_lease_is_told_by_its_renewals_and_not_by_the_servers_clock(
    redis_server: RedisServer,
) -> None:
    """As after the server's clock was set back by a day: the key of a master that is gone would not expire."""
    location = Location(redis_server.url, uuid.uuid4().hex, lease_seconds=0.5)
    async with opened(location) as gone:
        gone._closing.set()  # it renews no more
        await gone._renewal
        redis_server.say("PEXPIRE", f"{location.prefix}:lease", "86400000")
        async with asyncio.timeout(30), opened(location) as new:
            await new.journal.write(Put("k", "new"))
            with pytest.raises(StoreFailed, match="has taken over"):
                await gone.journal.write(Put("k", "late"))
            assert await new.get("k") == "new"


async def test_the_servers_clock_has_no_say_in_a_time_to_live(
    location: Location, redis_server: RedisServer
) -> None:
    async with opened(location) as store:
        await store.journal.write(Put("k", "v"), Expire("k", 3600))
        assert redis_server.say("PTTL", f"{location.prefix}:value:k") == b":-1\r\n"
