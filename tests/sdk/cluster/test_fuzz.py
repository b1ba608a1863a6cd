"""Random bytes, random payloads and random zips against a running master: it answers, and nothing grows.

Seeds are kept below, and stand in the names of the tests. ``TITAN_FUZZ_ROUNDS=50`` adds 49 more.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import logging
import os
import random
import resource
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.cluster.peer import frame, script
from titan_sdk.cluster.app import App
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.wire.opcodes import STORE_FAILED, Opcode

# Slow: Thousands of hostile payloads.
pytestmark = pytest.mark.slow

SEEDS = [1, 20261124, 77_000_003]
ROUNDS = int(os.environ.get("TITAN_FUZZ_ROUNDS", "1"))
FRAMES = 1200
WORDS = [
    *(
        "",
        "x",
        "DAG-x",
        "RUN_PAYLOAD",
        "DEPLOY_PAYLOAD",
        "RUN_ARCHIVE",
        "START_ARCHIVE_SERVICE",
        "job.py",
        "a.sh",
    ),
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "NULL",
        "ERROR: x",
        "GENERAL",
        "NOPE",
        "-1",
        "0",
        "99999999999",
    ),
    *(
        "1e309",
        "[]",
        "[DAG-x]",
        "[a,b",
        "AFFINITY",
        "aGVsbG8=",
        "!!!!",
        "\0",
        "é\ud7ff",
        "~t1~",
        "x.zip/y.py",
        "'; rm -rf ~",
    ),
    *(
        '{"ids":["x"],"seconds":0.01}',
        '{"key":"k","seconds":1e400}',
        '{"name":"n","upload":"0123456789abcdef","offset":-1}',
    ),
    *("[" * 3000, '{"a":' * 500, "9" * 400, "x" * 5000),
]
SAFE = [code for code in range(256) if code not in (Opcode.KILL_WORKER,)]


def seeds() -> list[int]:
    return SEEDS + list(range(1000, 1000 + ROUNDS - 1))


class Target:
    """A running master, and what it must not lose or gather."""

    def __init__(self, app: App, address: tuple[str, int]) -> None:
        self.app, self.address = app, address

    async def send(self, data: bytes) -> None:
        """Whatever comes back, if anything does."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(*self.address)
            try:
                writer.write(data)
                if writer.can_write_eof():
                    writer.write_eof()
                async with asyncio.timeout(20):
                    while await reader.read(1 << 16):
                        pass
            finally:
                writer.transport.abort()

    async def ask(self, opcode: int, payload: str | bytes) -> str:
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(frame(opcode, payload))
        async with asyncio.timeout(20):
            head = await reader.readexactly(8)
            text = await reader.readexactly(int.from_bytes(head[4:], "big"))
        writer.close()
        return text.decode("utf-8", "replace")

    async def check(self) -> None:
        """It works, and holds nothing of what is gone."""
        assert await self.ask(Opcode.KV_SET, "alive|yes") == "OK"
        assert await self.ask(Opcode.KV_GET, "alive") == "yes"
        server = self.app._server
        assert server is not None
        async with asyncio.timeout(20):
            while server.connections or server.requests:  # noqa: ASYNC110 - ends in other protocols' callbacks
                await asyncio.sleep(0.01)
        assert server.buffered == 0


@pytest.fixture
async def target(tmp_path: Path):  # type: ignore[no-untyped-def]
    app = App(
        ClusterSettings(tmp_path / "data", port=0, workers={"GENERAL": 1}, frame_timeout_seconds=2.0), "0"
    )
    yield Target(app, await app.start())
    await app.stop()


def a_frame(rng: random.Random) -> bytes:
    payload = rng.choice([rng.randbytes(rng.randrange(200)), a_payload(rng).encode("utf-8", "replace")])
    data = frame(rng.choice(SAFE), payload, version=rng.choice([1, 1, 1, 1, 0, 2, 255]))
    kind = rng.random()
    if kind < 0.15:
        return data[: rng.randrange(len(data))]
    if kind < 0.25:
        return frame(
            rng.choice(SAFE),
            payload,
            length=rng.choice([-1, -(2**31), 2**31 - 1, 10_485_761, len(payload) + 9]),
        )
    if kind < 0.4:
        return b"".join(
            [frame(Opcode.HELLO, ""), *(frame(rng.choice(SAFE), a_payload(rng)[:500]) for _ in range(3))]
        )
    if kind < 0.5:
        return rng.randbytes(rng.randrange(1, 64))
    return data


def a_payload(rng: random.Random) -> str:
    separator = rng.choice(["|", "|", "|", " ; ", ",", "\n"])
    text = separator.join(rng.choice(WORDS) for _ in range(rng.randrange(1, 10)))
    if rng.random() < 0.3:
        valid = script(
            f"DAG-f{rng.randrange(10**6)}", "pass", tag="NOPE", parents=["DAG-x"] * rng.randrange(2)
        )
        at = rng.randrange(len(valid))
        text = (
            valid[:at]
            + rng.choice(["", "|", ";", " ; ", "é", "\0", text[:20]])
            + valid[at + rng.randrange(2) :]
        )
    return text


def a_zip(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name in rng.sample(
            ["a.py", "../up.py", "/abs.py", "d/e.py", "..\\w.py", "C:/x", "a\0b", "d/", "x" * 250], 4
        ):
            info = zipfile.ZipInfo(name)
            info.external_attr = rng.choice([0, 0o100644, 0o120777, 0o060000, 0o104755]) << 16
            archive.writestr(info, rng.choice([b"print(1)", b"\0" * 300_000, rng.randbytes(99)]))
    data = bytearray(buffer.getvalue())
    for _ in range(rng.choice([0, 0, 1, 5, 50])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.choice([len(data), len(data), rng.randrange(len(data))])])


def tasks_beside_runs() -> list[asyncio.Task[Any]]:
    """A job that was taken has a task until it ends."""
    return [
        task
        for task in asyncio.all_tasks()
        if not repr(task.get_coro()).startswith("<coroutine object Runs.")
    ]


async def hammer(
    target: Target, seed: int, count: int, make: Callable[[random.Random], Awaitable[None]]
) -> None:
    rng = random.Random(seed)
    before = memory()
    tasks_before = len(tasks_beside_runs())
    for start in range(0, count, 20):
        await asyncio.gather(*(make(rng) for _ in range(min(20, count - start))))
    await target.check()
    assert len(tasks_beside_runs()) <= tasks_before + 1, f"seed {seed}"
    assert memory() - before < 150 * 1024 * 1024, f"seed {seed}"


def memory() -> int:
    """The most this process has ever used, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("seed", seeds())
async def test_random_frames(target: Target, seed: int) -> None:
    await hammer(target, seed, FRAMES, lambda rng: target.send(a_frame(rng)))


@pytest.mark.parametrize("seed", seeds())
async def test_random_payloads_get_an_answer(target: Target, seed: int) -> None:
    opcodes = [c for c in Opcode if c not in (Opcode.KILL_WORKER, Opcode.WAIT, Opcode.ACK)]

    async def one(rng: random.Random) -> None:
        payload = a_payload(rng)
        reply = await target.ask(rng.choice(opcodes), payload)
        assert "Traceback" not in reply
        # What the master itself did not expect is an answer with this word, and a bug.
        assert not reply.startswith("SERVER_ERROR"), f"seed {seed}: {payload!r} -> {reply}"

    await hammer(target, seed, FRAMES, one)


@pytest.mark.parametrize("seed", seeds())
async def test_random_zips_stay_in_their_folder(target: Target, seed: int, tmp_path: Path) -> None:
    async def one(rng: random.Random) -> None:
        name, data = f"z{rng.randrange(10**9)}", a_zip(rng)
        stored = await target.ask(Opcode.UPLOAD_ASSET, f"{name}.zip|{base64.b64encode(data).decode()}")
        assert stored == "UPLOAD_SUCCESS"
        assert (
            await target.ask(Opcode.SUBMIT_DAG, f"DAG-{name}|RUN_ARCHIVE|{name}.zip/a.py||GENERAL|1|0|[]")
            == "DAG_ACCEPTED"
        )

    await hammer(target, seed, 20, one)
    async with asyncio.timeout(60):
        assert target.app._master is not None
        while len(target.app._master.state.scheduler):  # noqa: ASYNC110 - jobs end in processes
            await asyncio.sleep(0.02)
    check_files(tmp_path)


def check_files(root: Path) -> None:
    """Files of the zips lie in their jobs' folders, and are files."""
    for path in root.rglob("*"):
        assert not path.is_symlink()
        # The worker process keeps the modules for jobs there, too.
        own = any(part.startswith(("DAG-z", "runtime-")) for part in path.parts)
        assert path.suffix != ".py" or own, path
        assert path.name not in {"up.py", "abs.py"}
    assert not Path("/abs.py").exists()


# ---------------------------------------------------------------------- every field of every request of ours

VALID: dict[int, dict[str, object]] = {
    Opcode.HELLO: {"token": "x"},
    Opcode.WAIT: {"ids": ["DAG-x"], "seconds": 0.01, "every": True},
    Opcode.JOB_INFO: {"id": "DAG-x"},
    Opcode.LOG_READ: {"id": "DAG-x", "offset": 0},
    Opcode.ASSET_WRITE: {"name": "n", "upload": "0123456789abcdef", "offset": 0, "sha256": None},
    Opcode.ASSET_READ: {"name": "there.txt", "offset": 0, "sha256": ""},
    Opcode.STORE_DELETE: {"key": "k"},
    Opcode.STORE_KEYS: {"prefix": "", "after": ""},
    Opcode.STORE_SWAP: {"key": "k", "expected": None, "value": "v"},
    Opcode.STORE_EXPIRE: {"key": "k", "seconds": 3600},
}
NASTY = [
    *("null", "true", "[]", "{}", '""', "0", "-1", "-0.0", "1e308", "1e400", "-1e400", "NaN", "1e-320"),
    *(
        str(2**31),
        str(2**53),
        str(2**63 - 1),
        str(2**63),
        str(-(2**63)),
        str(-(2**63) - 1),
        str(2**64),
        "9" * 5000,
    ),
    *(
        '"\\ud800"',
        '"a\\udfff|b"',
        '"\\u0000"',
        '"\\uffff"',
        '"~t1~\\"\\\\ud800\\""',
        '"~t1~["',
        '"DAG-\\ud800"',
    ),
    *('["\\ud800"]', '["\\u0000", "DAG-x"]', '[["x"]]', "[null]", "[" * 5000 + "]" * 5000, '{"a":' * 5000),
    *(
        f'"{"x" * 5000}"',
        '"../x"',
        '"/etc/passwd"',
        '"."',
        '"x/"',
        '"x/../y"',
        '"a/b/c"',
        '"~"',
        '"\\n"',
        '"|"',
    ),
]
"""JSON texts that a peer may put where something else is expected, and numbers and texts that are almost right."""


async def test_no_value_of_a_field_is_a_surprise(
    target: Target, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    assert await target.ask(Opcode.UPLOAD_ASSET, "there.txt|aGVsbG8=") == "UPLOAD_SUCCESS"
    assert await target.ask(Opcode.SUBMIT_DAG, script("DAG-x", "print('x' * 100)")) == "DAG_ACCEPTED"
    for opcode, fields in VALID.items():
        for name in (*fields, None):
            for nasty in NASTY:
                others = {key: value for key, value in fields.items() if key != name}
                members = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in others.items()]
                text = nasty if name is None else "{" + ", ".join([*members, f'"{name}": {nasty}']) + "}"
                reply = await target.ask(opcode, text + ("\ncontent" if opcode == Opcode.ASSET_WRITE else ""))
                shown = f"{opcode!r} {text[:200]} -> {reply[:200]}"
                assert not reply.startswith("SERVER_ERROR"), shown
                assert "Traceback" not in reply, shown
                assert not reply.startswith(STORE_FAILED), shown
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert target.app._master is not None
    assert target.app._master.state.failing() == []
    await target.check()


async def test_no_payload_of_a_request_in_text_is_a_surprise(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    """The same values where Titan v1 has words and pipes, and within ONCE."""
    texts = [json.loads(nasty) for nasty in NASTY if nasty[0] == '"'] + [
        nasty for nasty in NASTY if nasty[0] != '"'
    ]
    requests = {
        Opcode(code): ["{}", "{}|x", "x|{}", "{}|{}"]
        for code in Opcode
        if code not in {*VALID, Opcode.KILL_WORKER, Opcode.ACK, Opcode.ERROR}
    }
    for opcode, shapes in requests.items():
        for text in texts:
            for shape in shapes:
                payload = shape.replace("{}", text).encode("utf-8", "surrogatepass")
                reply = await target.ask(opcode, payload)
                assert not reply.startswith(("SERVER_ERROR", STORE_FAILED)), (
                    opcode,
                    payload[:200],
                    reply[:200],
                )
    for opcode, fields in VALID.items():
        for nasty in NASTY:
            inner = "{" + ", ".join(f'"{name}": {nasty}' for name in fields) + "}"
            reply = await target.ask(Opcode.ONCE, f"0123456789abcdef-1-01234567|{int(opcode)}\n{inner}")
            assert not reply.startswith(("SERVER_ERROR", STORE_FAILED)), (opcode, inner[:200], reply[:200])
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    await target.check()
