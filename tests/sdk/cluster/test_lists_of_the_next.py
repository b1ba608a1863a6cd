"""LIST and CHANGES go on at the next master, after a `kill -9` or a takeover: nothing is skipped, nothing comes twice."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Peer, script
from tests.support.redis_server import RedisServer
from titan_sdk import TitanClient
from titan_sdk.model.listing import JobChanges, ListedJob

# Slow: Each test kills a master and starts the next one.
pytestmark = pytest.mark.slow

ORDERS = ("newest", "oldest", "started", "ended")
Next = Callable[[], Peer]


@pytest.fixture(params=["sqlite, killed", "redis, killed", "redis, replaced", "redis, deposed"])
def masters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Next]:
    """Each call ends the master of the call before in one of the ways, and gives the next one."""
    settings: dict[str, Any] = {"artifacts": f"file://{tmp_path}/artifacts"}
    store, way = request.param.split(", ")
    if store == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        settings |= {"store": server.url, "store_prefix": uuid.uuid4().hex, "store_lease_seconds": 0.5}
    made: list[MasterProcess] = []

    def following() -> Peer:
        if made and way == "deposed":
            made[-1].pause()
        elif made:
            made[-1].kill()
        folder = tmp_path / ("data" if way == "killed" else f"data{len(made)}")
        made.append(MasterProcess(folder, **settings))
        peer = made[-1].start()
        if way == "deposed" and len(made) > 1:
            made[-2].go_on()
            assert made[-2].ended() != 0
        return peer

    yield following
    for master in made:
        master.close()


def some_jobs(peer: Peer, name: str, count: int = 8) -> set[str]:
    """All of them have ended, each in its own way and time."""
    names = [f"{name}-{number}" for number in range(count)]
    assert peer.submit(*(script(job, f"raise SystemExit({98 * (n % 2)})") for n, job in enumerate(names))).ok
    for job in names:
        peer.until(job)
    return {f"DAG-{job}" for job in names}


def mend(known: dict[str, ListedJob], client: TitanClient, changes: JobChanges) -> str | None:
    """What a page would do with them; the cursor from which it goes on."""
    if changes.list_again:
        known.clear()
        first = page = client.list_jobs(limit=3)
        while True:
            known |= {job.job_id: job for job in page.items}
            if page.cursor is None:
                return first.changes
            page = client.list_jobs(limit=3, cursor=page.cursor)
    known |= {job.job_id: job for job in changes.jobs}
    for job_id in changes.removed:
        known.pop(job_id, None)
    return changes.cursor


def test_pages_go_on_at_the_next_master(masters: Next) -> None:
    peer = masters()
    jobs = some_jobs(peer, "first")
    pages: dict[str, list[str]] = {}
    cursors: dict[str, str | None] = {}
    with TitanClient(*peer.address) as client:
        whole = {order: [job.job_id for job in client.list_jobs(order=order).items] for order in ORDERS}
        for order in ORDERS:
            page = client.list_jobs(order=order, limit=3)
            pages[order], cursors[order] = [job.job_id for job in page.items], page.cursor
    assert all(set(found) == jobs for found in whole.values())
    for number in range(2):
        peer = masters()
        later = some_jobs(peer, f"later-{number}", 2)
        with TitanClient(*peer.address) as client:
            for order in ORDERS:
                page = client.list_jobs(order=order, limit=2, cursor=cursors[order])
                pages[order] += [job.job_id for job in page.items]
                cursors[order] = page.cursor
            assert {job.job_id for job in client.list_jobs(prefix="later").items} >= later
    with TitanClient(*peer.address) as client:
        for order in ORDERS:
            pages[order] += [job.job_id for job in client.list_jobs(order=order, cursor=cursors[order]).items]
            # What was submitted in between is behind the oldest only.
            assert pages[order][: len(jobs)] == whole[order]
            behind = pages[order][len(jobs) :]
            assert len(behind) == len(set(behind)) == (4 if order == "oldest" else 0)


def test_a_view_that_follows_changes_is_right_at_each_next_master(masters: Next) -> None:
    known: dict[str, ListedJob] = {}
    cursor: str | None = None
    expected: set[str] = set()
    for number in range(3):
        peer = masters()
        with TitanClient(*peer.address) as client:
            changes = client.changes(cursor)
            assert changes.list_again, "another master's numbers mean nothing to this one"
            cursor = mend(known, client, changes)
            assert known.keys() == expected
            expected |= some_jobs(peer, f"of-{number}")
            while (changes := client.changes(cursor)).jobs:
                assert not changes.list_again
                cursor = mend(known, client, changes)
            assert known == {job.job_id: job for job in client.list_jobs(limit=1000).items}
            assert known.keys() == expected


def test_what_happens_while_there_is_no_master_is_in_the_next_list(masters: Next) -> None:
    """A job that ended meanwhile; its cursor from before is answered, not believed."""
    peer = masters()
    assert peer.submit(script("runs", "import time; time.sleep(1)")).ok
    peer.until("runs", "RUNNING")
    with TitanClient(*peer.address) as client:
        cursor = client.list_jobs().changes
    peer = masters()
    peer.until("runs")
    with TitanClient(*peer.address) as client:
        changes = client.changes(cursor, wait=20)
        assert (changes.list_again, changes.jobs) == (True, ())
        (job,) = client.list_jobs().items
        assert (job.job_id, job.attempts) == ("DAG-runs", 1)
        assert job.state.is_terminal
