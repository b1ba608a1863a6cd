"""Submissions of thousands of jobs: all or nothing, and nobody else waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Peer, script
from titan_sdk.cluster.app import App
from titan_sdk.cluster.retention import forget_before
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.wire.opcodes import Opcode

NOBODY = "NOPE"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    made = App(ClusterSettings(tmp_path, port=0), "0")
    yield made
    await made.stop()


def dag(jobs: int, size: int = 300, tag: str = NOBODY) -> str:
    code = "pass #" + "x" * size
    return " ; ".join(
        script(f"DAG-{n}", code, tag=tag, parents=[f"DAG-{n - 1}"] if n % 10 else []) for n in range(jobs)
    )


async def ask(peer: Peer, opcode: int, text: str = "") -> str:
    return (await asyncio.to_thread(peer.ask, opcode, text)).text


async def test_every_job_is_there_with_its_parents_and_after_a_restart_too(app: App, tmp_path: Path) -> None:
    peer = Peer(await app.start())
    assert await ask(peer, Opcode.SUBMIT_DAG, dag(1000)) == "DAG_ACCEPTED"
    assert (await ask(peer, Opcode.GET_JOB_STATUS, "DAG-999")) == "PENDING"
    assert app._master is not None
    db = app._master.state.store.db
    wanted = {f"DAG-{n}": f'[["DAG-{n - 1}", {n}]]' if n % 10 else "[]" for n in range(1000)}
    assert dict(db.execute("SELECT job_id, parents FROM jobs").fetchall()) == wanted
    await app.stop()
    again = App(ClusterSettings(tmp_path, port=0), "0")
    await again.start()
    assert again._master is not None
    assert len(again._master.state.scheduler) == 1000
    await again.stop()


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (script("DAG-0", "pass"), "the id 'DAG-0' occurs twice"),
        (script("DAG-x", "pass", parents=["DAG-foreign"]), "the parent 'DAG-foreign' is neither in this DAG"),
        (
            script("DAG-x", "pass", parents=["DAG-y"]) + " ; " + script("DAG-y", "", parents=["DAG-x"]),
            "form a cycle",
        ),
        ("DAG-x|RUN_PAYLOAD|a", "cannot be read"),
    ],
)
async def test_one_bad_line_refuses_all_of_them(app: App, last: str, words: str) -> None:
    peer = Peer(await app.start())
    reply = await ask(peer, Opcode.SUBMIT_DAG, f"{dag(600)} ; {last}")
    assert words in reply, reply
    assert await ask(peer, Opcode.GET_JOB_STATUS, "DAG-1") == "NULL"
    assert app._master is not None
    assert app._master.state.store.db.execute("SELECT count(*) FROM payloads").fetchone() == (0,)


async def test_a_parent_that_completed_before_counts(app: App) -> None:
    peer = Peer(await app.start())
    assert await ask(peer, Opcode.SUBMIT_DAG, script("DAG-done", "pass")) == "DAG_ACCEPTED"
    await asyncio.to_thread(peer.until, "DAG-done", "COMPLETED")
    child = script("DAG-child", "print('ran')", parents=["DAG-done"])
    assert await ask(peer, Opcode.SUBMIT_DAG, f"{dag(600)} ; {child}") == "DAG_ACCEPTED"
    await asyncio.to_thread(peer.until, "DAG-child", "COMPLETED")


async def test_the_same_ids_twice_at_once_are_taken_once(app: App) -> None:
    peer = Peer(await app.start())
    replies = await asyncio.gather(*(ask(peer, Opcode.SUBMIT_DAG, dag(1000)) for _ in range(3)))
    assert sorted(reply == "DAG_ACCEPTED" for reply in replies) == [False, False, True], replies
    assert app._master is not None
    assert len(app._master.state.scheduler) == 1000


async def test_a_status_is_told_once_it_is_known_whether_the_job_was_taken(app: App) -> None:
    """Before, NULL would mean that it never arrived, and its client would submit it again."""
    peer = Peer(await app.start())
    submitting = asyncio.ensure_future(ask(peer, Opcode.SUBMIT_DAG, dag(3000)))
    assert app._master is not None
    while not app._master._arriving:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert await ask(peer, Opcode.GET_JOB_STATUS, "DAG-1") == "PENDING"
    assert await submitting == "DAG_ACCEPTED"


async def test_a_parent_that_is_forgotten_meanwhile_ends_its_child_alone(app: App) -> None:
    peer = Peer(await app.start())
    for name in ("DAG-old", "DAG-newest"):
        await asyncio.to_thread(peer.submit, script(name, "pass"))
        await asyncio.to_thread(peer.until, name, "COMPLETED")
    assert app._master is not None
    state = app._master.state
    child = script("DAG-child", "print('ran')", parents=["DAG-old"])
    submitting = asyncio.ensure_future(ask(peer, Opcode.SUBMIT_DAG, f"{dag(3000, tag='GENERAL')} ; {child}"))
    while not app._master._arriving:  # noqa: ASYNC110 - its parents were looked for before this
        await asyncio.sleep(0)
    master = app._master
    await forget_before(state.clock.now() + 1, state.store, state.logs, master.data, master.uploads)
    assert state.status("DAG-old") is None
    assert await submitting == "DAG_ACCEPTED"
    assert await asyncio.to_thread(peer.until, "DAG-child") == "DEAD"
    assert "its parent DAG-old is not known any more" in await asyncio.to_thread(peer.log, "DAG-child")
    assert await asyncio.to_thread(peer.until, "DAG-0") == "COMPLETED"


async def test_a_full_disk_takes_nothing(app: App) -> None:
    peer = Peer(await app.start())
    assert app._master is not None
    db = app._master.state.store.db
    db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0] + 100}")
    reply = await ask(peer, Opcode.SUBMIT_DAG, dag(3000))
    assert reply.startswith("ERROR: the jobs could not be stored (")
    assert await ask(peer, Opcode.GET_JOB_STATUS, "DAG-1") == "NULL"
    db.execute("PRAGMA max_page_count=1000000")
    await app._master.flushed()
    assert await ask(peer, Opcode.SUBMIT_DAG, dag(300)) == "DAG_ACCEPTED"


async def test_ten_mebibytes_do_not_hold_up_the_others(app: App) -> None:
    """Others are served meanwhile. How long one waits belongs to the benchmarks: machines are noisy."""
    peer = Peer(await app.start())
    payload = await asyncio.to_thread(dag, 10_000, 700)
    assert 9_900_000 < len(payload) < 10_485_760
    submit = asyncio.create_task(ask(peer, Opcode.SUBMIT_DAG, payload))
    turns = 0
    while not submit.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert await submit == "DAG_ACCEPTED"
    assert turns > 20
