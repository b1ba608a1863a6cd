"""After a power cut at any point a master opens what the disk has, and keeps what its ``durability`` promises (promises.py).

A master's writes and syncs are recorded while clients do a bit of everything, over three lives of it: killed, stopped, and
stopped again. Then they are replayed up to a point, with what was not synced lost, torn or there, and a master opens
the folder. `make crash` takes every point, the suite some of them.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import json
import os
import random
import signal
import socket
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.power import (
    SCRATCH,
    Disk,
    Reply,
    Step,
    at_random,
    everything,
    nothing,
    read_log,
    traced,
)
from tests.crash.promises import PROMISES, may_be_lost
from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Peer, frame, read_reply, script
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.worker import client, local_workers
from titan_sdk.runtime import keys
from titan_sdk.wire.extensions import AssetWrite
from titan_sdk.wire.opcodes import Opcode

ALL = int(os.environ.get("TITAN_CRASH_KILLS", "10")) >= 100
Problem = tuple[str, str]
"""The kind of what is not there, and what is there instead."""
SOME = 10
"""Points of a recording that the suite looks at."""
MANY = 2000
"""More of them are not looked at all."""
SEED = int(os.environ.get("TITAN_CRASH_SEED", "1"))


class Traced(MasterProcess):
    """It is recorded."""

    def __init__(self, data_dir: Path, recorder: list[str], **settings: object) -> None:
        super().__init__(data_dir, workers={"GENERAL": 1}, **settings)
        self._command = [*recorder, *self._command]

    def _end(self, number: signal.Signals) -> int:
        # The recorder itself ends with the last process that the master has left behind.
        os.kill(int((self._data_dir / "master.lock").read_text()), number)
        return self._reap()


@dataclass(frozen=True)
class Fact:
    """What one acknowledged request made of one thing."""

    life: int
    port: int
    kind: str
    name: str
    value: str


class Client:
    """Asks one request after the other, and several at once; remembers the facts in the order of their requests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: list[Fact] = []
        self.life = 0

    def ask(self, peer: Peer, kind: str, name: str, value: str, opcode: int, payload: str | bytes) -> str:
        with socket.create_connection(peer.address, timeout=60) as sock:
            self.facts.append(Fact(self.life, sock.getsockname()[1], kind, name, value))
            sock.sendall(frame(opcode, payload))
            text = read_reply(sock).text
        assert not text.startswith(("ERROR", "SERVER_ERROR", "UPLOAD_FAILED", "DEPLOY_FAILED")), text
        return text

    def put(self, peer: Peer, name: str, value: str) -> None:
        self.ask(peer, "value", name, value, Opcode.KV_SET, f"{name}|{value}")

    def work(self, peer: Peer, large: int) -> None:
        n = f"l{self.life}"
        for number in range(6):
            self.put(peer, f"row-{self.life}-{number}", "x" * 300)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda number: self.put(peer, f"{n}-{number}", f"{number}" * 50), range(12)))
        self.put(peer, "again", n)
        self.ask(peer, "member", n, "in", Opcode.KV_SADD, f"members|{n}")
        for name in (f"{n}.bin", "replaced.bin"):
            content = base64.b64encode(f"{n} {name}".encode() * 2000).decode()
            self.ask(peer, "artifact", name, content, Opcode.UPLOAD_ASSET, f"{name}|{content}")
        self.upload(peer, f"{n}-chunks.bin", f"{n} chunks".encode() * 3000)
        text = base64.b64encode(f"print('{n}')".encode()).decode()
        self.ask(peer, "script", f"{n}.py", text, Opcode.DEPLOY_SCRIPT, f"{n}.py|{text}")
        self.ask(
            peer,
            "job",
            f"DAG-{n}-later",
            "PENDING",
            Opcode.SUBMIT_DAG,
            script(f"DAG-{n}-later", "", tag="LATER"),
        )
        self.ask(
            peer, "job", f"DAG-{n}-not", "PENDING", Opcode.SUBMIT_DAG, script(f"DAG-{n}-not", "", tag="LATER")
        )
        self.ask(peer, "job", f"DAG-{n}-not", "CANCELLED", Opcode.CANCEL_JOB, f"DAG-{n}-not")
        peer.submit(script(f"DAG-{n}-now", "print(1)"))
        peer.until(f"DAG-{n}-now")
        self.ask(peer, "job", f"DAG-{n}-now", "COMPLETED", Opcode.GET_JOB_STATUS, f"DAG-{n}-now")
        self.ask(peer, "output", f"DAG-{n}-now", "1\n", Opcode.GET_LOGS, f"DAG-{n}-now")
        self.default_job(peer, f"DAG-{n}-default")
        for number in range(large):
            self.put(peer, f"{n}-large-{number}", f"{number:08}" * 125_000)
        self.put(peer, f"{n}-last", "end")

    def default_job(self, peer: Peer, job_id: str) -> None:
        """With the runtime: what it hands in last travels by a file."""
        script_file = self.folder / "default.py"
        script_file.write_text("import titan_job; print('said'); titan_job.result([1, 2])")
        with TitanClient(*peer.address) as client:
            handle = client.submit_job(TitanJob(job_id, str(script_file)))
            assert handle.wait(240).result == [1, 2]
        key = keys.state_key(job_id, handle.nonce)
        self.ask(peer, "value", key, peer.ask(Opcode.KV_GET, key).text, Opcode.KV_GET, key)
        self.ask(peer, "output", job_id, "said\n", Opcode.GET_LOGS, job_id)

    def upload(self, peer: Peer, name: str, data: bytes) -> None:
        digest, half = hashlib.sha256(data).hexdigest(), len(data) // 2
        upload = f"{self.life:016x}"
        first = AssetWrite(name, upload, 0, None, data[:half]).encode()
        self.ask(peer, "nothing", "", "", Opcode.ASSET_WRITE, first)
        last = AssetWrite(name, upload, half, digest, data[half:]).encode()
        self.ask(peer, "artifact", name, base64.b64encode(data).decode(), Opcode.ASSET_WRITE, last)


@dataclass
class Recording:
    above: Path
    """The folder in which the master has made its own."""
    lives: list[Life]
    steps: list[Step | Reply]
    facts: list[Fact]
    begins: list[int]
    """How many steps there are before each life."""

    def told_by(self, point: int) -> dict[str, set[int]]:
        """Facts that clients had been told of, by their places and by the mode of the master that told them."""
        told = {
            (sum(start <= index for start in self.begins) - 1, step.port)
            for index, step in enumerate(self.steps[:point])
            if isinstance(step, Reply)
        }
        found: dict[str, set[int]] = {"full": set(), "normal": set()}
        for place, fact in enumerate(self.facts):
            if (fact.life, fact.port) in told:
                found[self.lives[fact.life].durability].add(place)
        return found


@dataclass(frozen=True)
class Life:
    """What a master promised, and how it ended."""

    durability: str
    end: str
    shared: bool = False
    """Whether artifacts are at a URL, which is that of a folder."""


FULL = [Life("full", "kill"), Life("full", "stop"), Life("full", "stop")]
NORMAL = [Life("normal", "kill"), Life("normal", "stop"), Life("normal", "stop")]
SHARED = [Life("full", "kill", shared=True), Life("full", "stop", shared=True)]
CHANGED = [Life("normal", "stop"), Life("normal", "kill"), Life("full", "kill")]


def _url(above: Path, life: Life) -> str | None:
    return f"file://{above}/b/shared" if life.shared else None


def record(tmp_path: Path, strace: str, lives: list[Life], *, large: int = 0) -> Recording:
    above = tmp_path / "above"
    above.mkdir()
    client = Client(tmp_path)
    recording = Recording(above, lives, [], client.facts, [])
    for number, life in enumerate(lives):
        log = tmp_path / f"life-{number}"
        master = Traced(
            above / "a" / "data",
            [*traced(strace, log)],
            durability=life.durability,
            artifacts=_url(above, life),
        )
        client.life = number
        try:
            client.work(master.start(), 0 if number else large)
        finally:
            getattr(master, life.end)()
        before = sum(isinstance(step, Step) for step in recording.steps)
        recording.begins.append(len(recording.steps))
        recording.steps += read_log(log, above, before)
    assert len({(fact.life, fact.port) for fact in client.facts}) == len(client.facts)
    return recording


@pytest.fixture(autouse=True)
def _machine_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a folder is opened. The master of the recording, a process of its own, met the machine as it is."""
    for module in (client, local_workers):
        monkeypatch.setattr(module, "boot_id", lambda: "another")


# ---------------------------------------------------------------------- what a master says that opens the folder


def found(peer: Peer, scripts: Path, fact: Fact) -> str:
    if fact.kind == "value":
        return peer.ask(Opcode.KV_GET, fact.name).text
    if fact.kind == "member":
        return "in" if fact.name in peer.ask(Opcode.KV_SMEMBERS, "members").text.split(",") else ""
    if fact.kind == "artifact":
        return peer.ask(Opcode.FETCH_ASSET, fact.name).text
    if fact.kind == "script":
        path = scripts / fact.name
        return base64.b64encode(path.read_bytes()).decode() if path.exists() else ""
    if fact.kind == "job":
        return peer.status(fact.name)
    if fact.kind == "output":
        return peer.log(fact.name)
    return fact.value


def lost(recording: Recording, told: set[int], say: Callable[[Fact], str]) -> list[Problem]:
    """What was acknowledged, and is neither so nor as a later request wanted it."""
    problems = []
    last = {(fact.kind, fact.name): place for place, fact in enumerate(recording.facts) if place in told}
    for (kind, name), place in last.items():
        wanted = {
            later.value for later in recording.facts[place:] if (later.kind, later.name) == (kind, name)
        }
        if (is_so := say(recording.facts[place])) not in wanted:
            problems.append((kind, f"{name} is {is_so[:40]!r}"))
    return problems


def gaps(recording: Recording, say: Callable[[Fact], str]) -> list[Problem]:
    """Values that are missing although a later one is there: each was acknowledged before the next one was sent."""
    rows = [fact for fact in recording.facts if fact.name.startswith("row-")]
    there = [say(fact) == fact.value for fact in rows]
    return [] if there == sorted(there, reverse=True) else [("order", f"only some values are there: {there}")]


def unended(recording: Recording, peer: Peer) -> list[Problem]:
    """Jobs that ran at that moment, or had not begun, and do not end now as they would have."""
    problems = []
    for name in {fact.name for fact in recording.facts if fact.kind == "output"}:
        if peer.status(name) in {"NULL", "COMPLETED"}:
            continue
        end, attempts = peer.until(name), json.loads(peer.ask(Opcode.JOB_INFO, f'{{"id": "{name}"}}').text)
        # One with the runtime has one run: where that had begun it is over.
        ends = {"COMPLETED", "DEAD"} if name.endswith("default") else {"COMPLETED"}
        if end not in ends or not 1 <= attempts["attempts"] <= 2:
            problems.append(("run", f"{name} is {end}: {attempts}"))
    return problems


def problems_of(recording: Recording, told: dict[str, set[int]], folder: Path) -> list[tuple[str, Problem]]:
    """What a master that opens the folder does not have, whether or not that was promised, by the mode of the master that
    was to keep it.
    """
    data, life = folder / "a" / "data", recording.lives[0]
    with LocalCluster({"GENERAL": 1}, data_dir=data, artifacts=_url(folder, life)) as cluster:
        peer = Peer((cluster.host, cluster.port))
        scripts = (folder / "b" / "shared" if life.shared else data) / "perm_files"

        def say(fact: Fact) -> str:
            return found(peer, scripts, fact)

        problems = [
            (mode, problem) for mode, facts in told.items() for problem in lost(recording, facts, say)
        ]
        of_all = gaps(recording, say) + unended(recording, peer)
        identity = (data / "cluster-id").read_text()
        if len(identity) != 17:
            of_all.append(("identity", f"the cluster's id is {identity!r}"))
    gc.collect()  # now, while that warning is ignored
    with contextlib.closing(sqlite3.connect(data / "master.sqlite3")) as db:
        of_all += [("folder", row[0]) for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    return problems + [("full", problem) for problem in of_all]


def points(recording: Recording) -> list[int]:
    """Where the power is cut: after a step, or after an answer."""
    every = list(range(1, len(recording.steps) + 1))
    if ALL and len(every) < MANY:
        return every
    answers = [point for point in every if isinstance(recording.steps[point - 1], Reply)]
    chosen = random.Random(SEED)
    some = MANY // 4 if ALL else SOME
    return sorted({*chosen.sample(answers, min(some // 2, len(answers))), *chosen.sample(every, some // 2)})


def replay(recording: Recording, target: Path) -> tuple[list[str], Counter[str]]:
    """Cut the power at each point: once with the worst outcome, and once with any other one. The promises that were
    broken, and what was lost as the mode allows, by kind.
    """
    disk, done, broken, looked, seen = Disk(), 0, [], 0, Counter[str]()
    for point in points(recording):
        feed(disk, recording.steps[done:point])
        done = point
        told = recording.told_by(point)
        for how, choose in (("nothing", nothing), ("some", at_random(SEED * 1_000_003 + point))):
            disk.write_to(str(recording.above), target, choose)
            for mode, (kind, problem) in problems_of(recording, told, target):
                if may_be_lost(kind, mode):
                    seen[kind] += 1
                else:
                    broken.append(f"at {point} with {how} of what was not synced: {kind} {problem}")
            looked += 1
    facts_made = len(recording.facts)
    print(
        f"{looked} power cuts, {len(recording.steps)} steps, {facts_made} acknowledged requests; lost: {dict(seen)}"
    )
    return broken, seen


def feed(disk: Disk, steps: list[Step | Reply]) -> None:
    for step in steps:
        if isinstance(step, Step):
            disk.do(step)


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files but sockets, SQLite's scratch and what Python compiles when it likes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(SCRATCH) and path.parent.name != "__pycache__"
    }


@pytest.mark.timeout(3600 if ALL else 600)
@pytest.mark.parametrize(
    "lives",
    [
        pytest.param(FULL, id="full"),
        # Slow: a master opens each of the folders.
        pytest.param(SHARED, id="shared", marks=pytest.mark.slow),
        pytest.param(CHANGED, id="changed", marks=pytest.mark.slow),
        pytest.param(NORMAL, id="normal", marks=pytest.mark.slow),
    ],
)
def test_a_power_cut_loses_no_more_than_the_mode_allows(
    strace: str, tmp_path: Path, lives: list[Life]
) -> None:
    recording, whole, target = record(tmp_path, strace, lives), Disk(), tmp_path / "cut"
    feed(whole, recording.steps)
    whole.write_to(str(recording.above), target, everything)
    assert contents(target) == contents(recording.above)  # so the recording is complete
    assert problems_of(recording, recording.told_by(len(recording.steps)), target) == []
    broken, seen = replay(recording, target)
    assert broken == []
    if all(life.durability == "normal" for life in lives):
        # No row says more than it has to.
        assert {row.what for row in PROMISES if row.loses} == {
            row.what for row in PROMISES if seen.keys() & set(row.kinds)
        }


# Slow: Tens of megabytes go through strace.
@pytest.mark.slow
@pytest.mark.timeout(3600 if ALL else 600)
@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_power_cut_while_the_log_goes_into_the_database(
    strace: str, tmp_path: Path, durability: str
) -> None:
    lives = [Life(durability, "kill"), Life(durability, "stop")]
    recording = record(tmp_path, strace, lives, large=18)
    written = [step.path for step in recording.steps[: recording.begins[1]] if isinstance(step, Step)]
    assert sum(path.endswith("master.sqlite3") for path in written) > 1000  # while it served
    assert replay(recording, tmp_path / "cut")[0] == []
