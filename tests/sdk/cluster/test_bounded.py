"""What strangers and long lives could fill: connections, memory, logs, the data directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Peer, frame, script
from tests.sdk.cluster.test_server import Echo, everything, exchange, serve
from titan_sdk import JobStatus, TitanClient, TitanJob
from titan_sdk.cluster.app import App
from titan_sdk.cluster.logs import limit_log, read_log, read_range
from titan_sdk.cluster.retention import collect
from titan_sdk.cluster.server import server as server_module
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.errors import TitanError
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import Opcode

# Slow: Hundreds of peers, and gigabytes that are refused.
pytestmark = pytest.mark.slow

MIB = 1024 * 1024
TOKEN = "correct-horse-battery"
serving = contextlib.asynccontextmanager(serve)


# ---------------------------------------------------------------------- peers


async def test_a_trickle_of_bytes_does_not_renew_the_patience(tmp_path: Path) -> None:
    async with serving(Echo(tmp_path, frame_timeout_seconds=0.3)) as echo:
        reader, writer = await echo.open()
        begun = time.monotonic()
        whole = frame(8, "x" * 1000)
        closed = asyncio.create_task(everything(reader))
        for at in range(len(whole)):
            if closed.done():
                break
            writer.write(whole[at : at + 1])
            await asyncio.wait([closed], timeout=0.02)
        assert await closed == b""
        writer.transport.abort()
        assert time.monotonic() - begun < 20  # all 1,008 bytes take longer
        assert (echo.server.connections, echo.server.buffered) == (0, 0)


async def test_a_peer_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    class Generous(Echo):
        async def answer(self, _: object) -> str | bytes:
            return b"x" * (32 * MIB)

    async with serving(Generous(tmp_path, frame_timeout_seconds=0.2)) as echo:
        _, writer = await echo.open()
        writer.write(frame(8, "all of it"))
        await writer.drain()
        await _until(lambda: echo.server.buffered >= 32 * MIB)
        other_reader, other_writer = await echo.open()
        other_writer.write(frame(8, ""))
        assert len(await other_reader.readexactly(8 + 32 * MIB)) == 8 + 32 * MIB
        writer.transport.abort()
        other_writer.close()
        await _until(lambda: (echo.server.connections, echo.server.buffered) == (0, 0))


async def test_a_full_budget_waits_and_nobody_small_waits_with_it(tmp_path: Path) -> None:
    async with serving(Echo(tmp_path, max_buffered_bytes=12 * MIB)) as echo:
        slow = []
        for _ in range(4):
            _, writer = await echo.open()
            writer.write(frame(8, b"x" * MIB, length=6 * MIB))
            slow.append(writer)
        await _until(lambda: echo.server.buffered == 12 * MIB)
        large = asyncio.create_task(exchange(echo, frame(8, b"y" * (4 * MIB))))
        assert await exchange(echo, frame(8, "small")) == frame(0x50, "8:small")
        assert not large.done()
        for writer in slow:
            writer.transport.abort()
        assert await large == frame(0x50, f"8:{4 * MIB}")
        await _until(lambda: (echo.server.connections, echo.server.buffered) == (0, 0))


async def test_half_a_frame_holds_the_budget_until_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_SLOWEST", 100 * MIB)
    async with serving(Echo(tmp_path, max_buffered_bytes=12 * MIB, frame_timeout_seconds=1.0)) as echo:
        crowd = [await echo.open() for _ in range(4)]
        for _, writer in crowd:
            writer.write(frame(8, b"x" * MIB, length=6 * MIB))
        await _until(lambda: echo.server.buffered == 12 * MIB)
        assert await exchange(echo, frame(8, b"y" * (4 * MIB))) == frame(0x50, f"8:{4 * MIB}")
        for reader, writer in crowd:
            assert await everything(reader) == b""
            writer.close()


async def test_what_waits_for_an_event_leaves_the_budget_to_others(tmp_path: Path) -> None:
    class Waits(Echo):
        async def answer(self, found: Frame) -> str | bytes:
            if found.opcode == Opcode.WAIT:
                await self.release.wait()
            return str(len(found.payload))

    async with serving(Waits(tmp_path, max_buffered_bytes=12 * MIB)) as echo:
        echo.release.clear()
        waiting = [await echo.open() for _ in range(4)]
        for _, writer in waiting:
            writer.write(frame(Opcode.WAIT, b"w" * (8 * MIB)))
        await _until(lambda: echo.server.buffered == 8 * MIB)
        assert await exchange(echo, frame(8, b"y" * (9 * MIB))) == frame(0x50, str(9 * MIB))
        echo.release.set()
        for reader, writer in waiting:
            assert await everything(reader) == frame(0x50, str(8 * MIB))
            writer.close()


async def test_a_crowd_that_reads_nothing_takes_no_more_memory_than_allowed(tmp_path: Path) -> None:
    class Generous(Echo):
        async def answer(self, found: Frame) -> str | bytes:
            return b"x" * (16 * MIB) if found.opcode == Opcode.GET_LOGS else await super().answer(found)

    async with serving(Generous(tmp_path, max_buffered_bytes=32 * MIB)) as echo:
        crowd = [await echo.open() for _ in range(20)]
        await _until(lambda: echo.server.connections == 20)
        tracemalloc.start()
        try:
            for _, writer in crowd:
                writer.write(frame(Opcode.GET_LOGS, "all of it"))
            await _until(lambda: echo.server.requests == 20 and echo.server.buffered > 15 * MIB)
            assert await exchange(echo, frame(8, "one that reads")) == frame(0x50, "8:one that reads")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # What is allowed, and the few that are made next; all of them are 320 MiB.
        assert peak < 200 * MIB
        for _, writer in crowd:
            writer.transport.abort()
        await _until(lambda: (echo.server.connections, echo.server.buffered) == (0, 0))


async def test_a_crowd_that_asks_for_large_replies_does_not_hold_up_the_others(tmp_path: Path) -> None:
    class Generous(Echo):
        async def answer(self, found: Frame) -> str | bytes:
            return b"x" * MIB if found.opcode == Opcode.KV_GET else await super().answer(found)

    async with serving(Generous(tmp_path)) as echo:
        crowd = [await echo.open() for _ in range(50)]
        reader, writer = await echo.open()
        await _until(lambda: echo.server.connections == 51)
        # All are there at once, the crowd first.
        for _, crowded in crowd:
            crowded.write(frame(Opcode.KV_GET, "large"))
        writer.write(frame(8, "small"))
        assert await everything(reader) == frame(0x50, "8:small")
        assert 0 < echo.server.answered[Opcode.KV_GET] < 25
        writer.close()
        for large, crowded in crowd:
            assert len(await everything(large)) == 8 + MIB
            crowded.close()


async def test_an_attack_does_not_fill_the_masters_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Echo(tmp_path, max_connections=1)) as echo:
        crowd = [await echo.open() for _ in range(31)]
        await _until(lambda: echo.server.dropped == 30)
        assert len([text for text in caplog.messages if "connections are open" in text]) == 1
        for _, writer in crowd:
            writer.transport.abort()


async def test_long_idle_connections_give_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_EVICTABLE_SECONDS", 0.0)
    async with serving(Echo(tmp_path, max_connections=3)) as echo:
        idle = [await echo.open() for _ in range(3)]
        for reader, writer in idle:
            writer.write(frame(Opcode.HELLO, ""))
            assert await reader.readexactly(11)
        assert await exchange(echo, frame(8, "new")) == frame(0x50, "8:new")
        assert await everything(idle[0][0]) == b""
        for _, writer in idle:
            writer.close()


async def test_strangers_do_not_displace_who_has_just_been_answered(tmp_path: Path) -> None:
    async with serving(Echo(tmp_path, max_connections=3)) as echo:
        known = [await echo.open() for _ in range(3)]
        for reader, writer in known:
            writer.write(frame(Opcode.HELLO, ""))
            assert await reader.readexactly(11)
        assert await exchange(echo, b"") == b""
        for reader, writer in known:
            writer.write(frame(8, "still here"))
            await reader.readuntil(b"8:still here")
            writer.close()


async def test_whoever_has_not_shown_the_token_makes_room(tmp_path: Path) -> None:
    """However many there are, and whatever they send: those that were let in stay, and others are let in."""
    hello = frame(Opcode.HELLO, json.dumps({"token": TOKEN}))
    async with serving(Echo(tmp_path, max_connections=20, token=TOKEN)) as echo:
        within = [await echo.open() for _ in range(8)]
        for reader, writer in within:
            writer.write(hello)
            assert await reader.readexactly(8)
        crowd = []
        for number in range(60):
            crowd.append(await echo.open())
            crowd[-1][1].write(hello[: number % 3 + 1])
            if number % 5 == 0:
                reader, writer = await echo.open()
                writer.write(hello + frame(8, "new"))
                assert await reader.readuntil(b"8:new")
                writer.transport.abort()
        assert echo.server.connections <= 20
        for _, writer in within:
            writer.write(frame(8, "still here"))
        for reader, _ in within:
            await reader.readuntil(b"8:still here")
        for _, writer in (*within, *crowd):
            writer.transport.abort()
        await _until(lambda: echo.server.connections == 0)
        assert not echo.server._strangers


def test_a_master_with_few_descriptors_takes_fewer_connections_and_goes_on(tmp_path: Path) -> None:
    master = MasterProcess(tmp_path / "data", descriptors=400)
    with (tmp_path / "errors").open("wb") as errors:
        peer = master.start(errors)
    idle: list[socket.socket] = []
    try:
        idle.extend(peer.connect() for _ in range(800))
        pause, deadline, answered = threading.Event(), time.monotonic() + 60, 0
        while answered < 10 and time.monotonic() < deadline:
            try:
                answered += peer.ask(Opcode.KV_SET, "k|v").text == "OK"
            except (OSError, EOFError):
                pause.wait(0.5)  # until somebody has been idle for long enough
        assert answered == 10
        peer.submit(script("DAG-runs", "print('ran')"))
        assert peer.until("DAG-runs") == "COMPLETED"
    finally:
        for sock in idle:
            sock.close()
        master.close()
    said = (tmp_path / "errors").read_text().splitlines()
    assert len([line for line in said if "raise the limit to" in line]) == 1
    assert len(said) < 10, said


async def test_a_thousand_idle_connections_and_one_that_works(tmp_path: Path) -> None:
    async with serving(Echo(tmp_path, max_connections=1100)) as echo:
        idle = [await echo.open() for _ in range(1000)]
        assert await exchange(echo, frame(8, "works")) == frame(0x50, "8:works")
        assert echo.server.buffered == 0
        for _, writer in idle:
            writer.transport.abort()
        await _until(lambda: echo.server.connections == 0)


async def test_a_wait_ends_with_its_connection(tmp_path: Path) -> None:
    app = App(ClusterSettings(tmp_path, port=0), "0")
    address = await app.start()
    peer = Peer(address)
    assert (await asyncio.to_thread(peer.submit, script("j", "pass", tag="NOPE"))).ok
    for _ in range(20):
        sock = await asyncio.to_thread(peer.connect)
        sock.sendall(frame(Opcode.WAIT, '{"ids":["j"],"seconds":20.0}'))
        sock.close()
    assert app._server is not None
    await _until(lambda: app._server is not None and app._server.requests == 0 == app._server.connections)
    await app.stop()


async def _until(true) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another protocol's callbacks
            await asyncio.sleep(0.01)


# ---------------------------------------------------------------------- logs


@pytest.mark.parametrize("printed", [0, 999, 1000, 1001, 5000])
def test_a_log_keeps_its_beginning_and_says_so(tmp_path: Path, printed: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * printed)
    limit_log(path, 1000)
    assert path.stat().st_size <= 1001
    text = read_log(path, cap=1000)
    assert text.startswith("a" * min(printed, 1000))
    assert ("reached its limit of 1,000 bytes" in text) is (printed > 1000)
    # In pieces it reads the same, whatever is appended and cut in between.
    data, offset = b"", 0
    while piece := read_range(path, offset, 7, 1000)[0]:
        data, offset = data + piece, offset + len(piece)
        if printed > 1000:
            with open(path, "ab") as file:
                file.write(b"later")
            limit_log(path, 1000)
    assert data.decode() == text


@pytest.mark.parametrize("runtime", [True, False])
async def test_a_job_that_prints_without_end_goes_on(tmp_path: Path, runtime: bool) -> None:
    app = App(ClusterSettings(tmp_path / "data", port=0, log_limit_bytes=200_000), "0")
    host, port = await app.start()
    job = tmp_path / "job.py"
    job.write_text("for i in range(60000): print('line', i)\nprint('done')\n")

    def run() -> tuple[JobStatus, str, str]:
        with TitanClient(host, port) as client:
            handle = client.submit_job(TitanJob("noisy", str(job), runtime=runtime))
            state = handle.wait(300).state
            return state, handle.logs(), "".join(handle.follow_logs())

    state, logs, followed = await asyncio.to_thread(run)
    await app.stop()
    assert state is JobStatus.COMPLETED
    assert logs.startswith("line 0\nline 1\n")
    assert "the log has reached its limit of 200" in logs
    assert len(logs) < 200_200
    assert "has reached its limit" in followed


async def test_the_file_of_a_running_job_is_cut(tmp_path: Path) -> None:
    app = App(ClusterSettings(tmp_path / "data", port=0, log_limit_bytes=100_000), "0")
    peer = Peer(await app.start())
    code = "import sys, time\nsys.stdout.write('x' * 3_000_000); sys.stdout.flush(); time.sleep(60)"
    assert (await asyncio.to_thread(peer.submit, script("big", code))).ok
    assert app._master is not None
    log = app._master.data.log_file("DAG-big")
    await _until(lambda: log.exists() and log.stat().st_size == 100_001)
    await app.stop()


async def test_the_limit_holds_for_what_a_job_prints_last(tmp_path: Path) -> None:
    """Nobody looks between its last second and its end."""
    app = App(ClusterSettings(tmp_path / "data", port=0, log_limit_bytes=100_000), "0")
    peer = Peer(await app.start())
    assert (await asyncio.to_thread(peer.submit, script("big", "print('x' * 3_000_000)"))).ok
    assert await asyncio.to_thread(peer.until, "big") == "COMPLETED"
    assert app._master is not None
    assert app._master.data.log_file("DAG-big").stat().st_size == 100_001
    await app.stop()


# ---------------------------------------------------------------------- the data directory


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    made = App(ClusterSettings(tmp_path / "data", port=0, keep_finished_seconds=3600.0), "0")
    yield made
    await made.stop()


def _run_some(host: str, port: int, folder: Path) -> None:
    job = folder / "job.py"
    job.write_text("import titan_job; print('hi'); titan_job.result('x' * 1000)")
    plain = folder / "plain.py"
    plain.write_text("print('hi')")
    with TitanClient(host, port) as client:
        dag = client.submit_dag("nightly", [TitanJob("a", str(job)), TitanJob("b", str(job), parents=["a"])])
        dag.wait(300)
        client.submit_job(TitanJob("plain", str(plain), runtime=False)).wait(300)
        pair = [TitanJob(f"plain-{name}", str(plain), runtime=False) for name in "ab"]
        client.submit_dag("of plain jobs", pair).wait(300)
        client.store_put("kept", "for ever")
        client.store_put("short", "lived")
        client.store_expire("short", 0.001)
        client.submit_job(TitanJob("last", str(job))).wait(300)


def _age(app: App) -> None:
    assert app._master is not None
    db = app._master.state.store.db
    db.execute("UPDATE jobs SET ended_at = ended_at - 7200 WHERE job_id != 'DAG-last'")
    manifests = db.execute("SELECT key, value FROM kv WHERE key LIKE 'titan:dag:%' AND key NOT LIKE '%last%'")
    for key, text in manifests.fetchall():
        written = json.loads(text)
        if "submitted_at" in written:
            aged = json.dumps({**written, "submitted_at": written["submitted_at"] - 7200})
            db.execute("UPDATE kv SET value = ? WHERE key = ?", (aged, key))


async def test_finished_jobs_are_forgotten_with_all_they_left(app: App, tmp_path: Path) -> None:
    host, port = await app.start()
    await asyncio.to_thread(_run_some, host, port, tmp_path)
    _age(app)
    assert app._master is not None
    assert app._housekeeping is not None
    await app._housekeeping.sweep()
    db = app._master.state.store.db
    assert [row[0] for row in db.execute("SELECT job_id FROM jobs")] == ["DAG-last"]
    assert db.execute("SELECT count(*) FROM payloads").fetchone() == (1,)
    keys = {row[0] for row in db.execute("SELECT key FROM kv")}
    assert "kept" in keys
    assert "short" not in keys
    assert not [key for key in keys if "DAG-a" in key or "DAG-b" in key or "nightly" in key or "plain" in key]
    assert [key for key in keys if "DAG-last" in key]
    assert [path.name for path in app._master.data.logs.iterdir()] == ["DAG-last.log"]


async def test_gc_does_the_same_in_the_folder_of_a_stopped_master(app: App, tmp_path: Path) -> None:
    host, port = await app.start()
    await asyncio.to_thread(_run_some, host, port, tmp_path)
    _age(app)
    root, before = tmp_path / "data", time.time() - 3600
    settings = ClusterSettings(root)
    with pytest.raises(TitanError, match="another master"):
        await collect(settings, before)
    await app.stop()
    assert (await collect(settings, before, dry_run=True)).jobs == 5
    found = await collect(settings, before)
    assert found.jobs == 5
    assert (await collect(settings, before)).jobs == 0
    with contextlib.closing(sqlite3.connect(root / "master.sqlite3")) as db:
        keys = [key for (key,) in db.execute("SELECT key FROM kv WHERE key LIKE 'titan:dag:%' ORDER BY key")]
        assert [key.rpartition(":")[0] for key in keys] == ["titan:dag", "titan:dag:last"]
    again = App(ClusterSettings(root, port=0), "0")
    peer = Peer(await again.start())
    assert (await asyncio.to_thread(peer.ask, Opcode.GET_JOB_STATUS, "DAG-last")).text == "COMPLETED"
    assert (await asyncio.to_thread(peer.ask, Opcode.GET_JOB_STATUS, "DAG-a")).text == "NULL"
    await again.stop()


# ---------------------------------------------------------------------- clear answers


async def test_a_damaged_database_is_a_sentence(tmp_path: Path) -> None:
    for content in (b"this is no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000):
        (tmp_path / "master.sqlite3").write_bytes(content)
        app = App(ClusterSettings(tmp_path, port=0), "0")
        with pytest.raises(
            TitanError,
            match="the file is damaged or is no database: move its folder away, or give another data_dir",
        ):
            await app.start()


async def test_a_second_master_on_the_folder_is_a_sentence(app: App, tmp_path: Path) -> None:
    await app.start()
    with pytest.raises(
        TitanError, match=r"another master \(process \d+\) uses .*; stop it, or give this one another"
    ):
        await App(ClusterSettings(tmp_path / "data", port=0), "0").start()


async def test_a_clock_that_jumps_moves_no_deadline(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(await app.start())
    real = time.time
    for jump in (86_400.0, -86_400.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        name = f"DAG-jump{jump:.0f}"
        assert (await asyncio.to_thread(peer.submit, script(name, "pass", delay=200))).ok
        assert await asyncio.to_thread(peer.until, name) == "COMPLETED"
