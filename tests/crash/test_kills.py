"""`kill -9` of the master at random instants of a mixed load. `make crash` does it 200 times, the suite ten.

What ran is told by the jobs themselves, in a file that no master writes. The seed is printed; TITAN_CRASH_SEED takes it again.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

from tests.crash.load import Load
from tests.sdk.cluster.master_process import MasterProcess

KILLS = int(os.environ.get("TITAN_CRASH_KILLS", "10"))
SEED = int(os.environ.get("TITAN_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
MAX_RUNS = 4


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    audit = tmp_path / "audit"
    audit.touch()
    master = MasterProcess(tmp_path / "data")
    load = Load(random.Random(chance.random()), audit)
    load.peer = master.start()
    load.start()
    pause = threading.Event()
    try:
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


def check(load: Load, audit: Path) -> None:
    ran = Counter(audit.read_text().split())
    peer = load.peer
    assert peer is not None
    problems: list[str] = []
    for job_id in load.good:
        if job_id in load.cancelled:
            continue
        status = peer.status(job_id)
        if status != "COMPLETED" or ran[job_id] != 1:
            problems.append(f"{job_id} is {status} and ran {ran[job_id]} times")
    for job_id in load.bad:
        status = peer.status(job_id)
        if status != "DEAD" or ran[job_id] != MAX_RUNS:
            problems.append(f"{job_id} fails, is {status} and ran {ran[job_id]} times")
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
    print(f"{load.counts()}; {sum(ran.values())} runs; at {time.strftime('%H:%M:%S')}")
    assert load.good
    assert load.values
