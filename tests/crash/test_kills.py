"""`kill -9` of the master at random instants of a mixed load. `make crash` does it 200 times, the suite ten.

What ran is told by the jobs themselves, in a file that no master writes. The seed is printed; TITAN_CRASH_SEED takes it again.
"""

from __future__ import annotations

import json
import os
import random
import threading
import uuid
from collections import Counter
from pathlib import Path

import pytest

from tests.crash.load import Load
from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Peer
from titan_sdk.wire.opcodes import Opcode

# Slow: Masters are killed and started again, many times.
pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("TITAN_CRASH_KILLS", "10"))
SEED = int(os.environ.get("TITAN_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
MAX_RUNS = 4


@pytest.mark.timeout(120 + 6 * KILLS)
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_nothing_acknowledged_is_lost(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    print(f"seed {SEED}, {KILLS} kills")
    settings = {}
    if store == "redis":
        url = request.getfixturevalue("redis_server").url
        settings = {"store": url, "store_prefix": uuid.uuid4().hex, "store_lease_seconds": 0.3}
    chance = random.Random(SEED)
    audit = tmp_path / "audit"
    audit.touch()
    master = MasterProcess(tmp_path / "data", **settings)
    load = Load(random.Random(chance.random()), audit)
    load.peer = master.start()
    load.start()
    pause = threading.Event()
    try:
        assert load.under_way.wait(300)
        for _ in range(KILLS):
            pause.wait(chance.uniform(0.0, 0.5))
            master.kill()
            load.peer = master.start()
        load.stop()
        load.settle()
        check(load, audit)
    finally:
        load.stop()
        master.close()


def check(load: Load, audit: Path, *, logs: bool = True) -> None:
    """``logs``: whether each job's log is where the last master is."""
    ran = Counter(audit.read_text().split())
    peer = load.peer
    assert peer is not None
    problems: list[str] = []
    seen: Counter[str] = Counter()
    for job_id in load.good:
        if job_id not in load.cancelled:
            problems += look_at(peer, job_id, "COMPLETED", 1, ran[job_id], seen, logs)
    for job_id in load.bad:
        problems += look_at(peer, job_id, "DEAD", MAX_RUNS, ran[job_id], seen, logs)
    problems += [f"{job_id} ran {n} times" for job_id, n in ran.items() if n > MAX_RUNS]
    for key, value in load.values.items():
        if (found := peer.ask(0x61, key).text) != value:
            problems.append(f"value {key} is {found[:50]!r}")
    for name, content in load.artifacts.items():
        if (found := peer.ask(0x54, name).text) != content:
            problems.append(f"artifact {name} is {found[:50]!r}")
    for job_id in load.cancelled:
        if peer.status(job_id) not in {"CANCELLED", "COMPLETED"}:
            problems.append(f"{job_id} was cancelled and is {peer.status(job_id)}")
    assert not problems, f"seed {SEED}:\n" + "\n".join(problems)
    print(f"{load.counts()}; {sum(ran.values())} runs; in their histories: {dict(seen)}")
    assert load.good
    assert load.values


def look_at(
    peer: Peer, job_id: str, end: str, runs: int, ran: int, seen: Counter[str], logs: bool
) -> list[str]:
    """What is wrong with a job: its state, how often it ran, its log, its history."""
    found = json.loads(peer.ask(Opcode.JOB_INFO, json.dumps({"id": job_id})).text)
    events = [text.partition(":")[0] for _, text in found["history"]]
    seen.update(events)
    printed = peer.log(job_id).split("\n").count(job_id)
    right = {
        "state": found["state"] == end,
        "runs": ran == runs,
        "log": printed == runs or not logs,
        "first event": events[0] == "submitted",
        "last event": events[-1] == end,
        "starts": runs <= events.count("started") <= runs + events.count("queued again"),
    }
    wrong = [name for name, is_right in right.items() if not is_right]
    return [f"{job_id}: {wrong} wrong; ran {ran} times, printed {printed} times, {found}"] if wrong else []
