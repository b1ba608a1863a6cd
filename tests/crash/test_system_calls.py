"""Each system call of the master's data path fails once, wherever it is made: nothing that was acknowledged is lost.

strace makes every STEP-th call of a kind fail while a client does a bit of everything, and again with each other phase, so
that over all phases each call has failed. `make crash` takes all phases, the suite two of each kind.
"""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Peer, script
from tests.support.tracer import Tracer
from titan_sdk.wire.opcodes import Opcode

# Slow: Masters are killed and started again, many times.
pytestmark = pytest.mark.slow

PHASES = None if int(os.environ.get("TITAN_CRASH_KILLS", "10")) >= 100 else 2
CALLS = {
    # A step is more than a commit or an upload makes of them: what is tried again meets no second failure.
    "pwrite64": ("ENOSPC", 40),
    "write": ("ENOSPC", 10),
    "sendto": ("ENOBUFS", 20),
    "pread64": ("EIO", 10),
    "openat": ("EMFILE", 10),
    "newfstatat": ("EIO", 10),
    "read": ("EIO", 5),
    "close": ("EIO", 20),
    "getdents64": ("EIO", 5),
    "rename": ("ENOSPC", 3),
    "mkdir": ("ENOSPC", 5),
    "lseek": ("EIO", 5),
    "mmap": ("ENOMEM", 7),
    "brk": ("ENOMEM", 5),
    "mremap": ("ENOMEM", 5),
}
LARGE = {
    "fdatasync": ("EIO", range(1, 4), 4),
    "ftruncate": ("EIO", range(1, 4), 4),
    "pread64": ("EIO", range(1, 3000, 500), 3001),
    "pwrite64": ("EIO", range(1, 12_000, 900), 12_001),
}
"""As above, with values so large that the log is moved into the database, which is when anybody waits for the disk."""


class Failing(Tracer):
    """A system call of the master fails now and then."""

    def __init__(self, pid: int, call: str, error: str, when: str, log: Path) -> None:
        options = [
            "-f",
            "-o",
            str(log),
            "-e",
            f"trace={call}",
            "-e",
            f"inject={call}:error={error}:when={when}",
        ]
        super().__init__(options, [pid], log.with_suffix(".said"))
        self._log = log

    @property
    def count(self) -> int:
        return self._log.read_text(errors="replace").count("(INJECTED)")


class Client:
    """Does a bit of everything, and remembers what it was told was done."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.members: set[str] = set()
        self.artifacts: dict[str, str] = {}
        self.jobs: list[str] = []
        self.refused: Counter[str] = Counter()
        self.dead = 0
        self._number = 0

    def work_large(self, peer: Peer) -> None:
        for _ in range(3):
            self._number += 1
            name = f"large{self._number % 5}"
            value = f"{self._number:08}" * 750_000
            if self._did(peer, Opcode.KV_SET, f"{name}|{value}"):
                self.values[name] = value
            elif name in self.values and peer.ask(Opcode.KV_GET, name).text == value:
                self.values[name] = (
                    value  # refused, and carried out: what a reply that was lost may mean, too
                )
        self.work(peer)

    def work(self, peer: Peer) -> None:
        for _ in range(4):
            self._number += 1
            name = f"n{self._number}"
            if self._did(peer, Opcode.KV_SET, f"{name}|{name * 200}"):
                self.values[name] = name * 200
            if self._did(peer, Opcode.KV_SADD, f"set|{name}"):
                self.members.add(name)
            content = base64.b64encode(name.encode() * 5000).decode()
            if self._did(peer, Opcode.UPLOAD_ASSET, f"{name}.bin|{content}"):
                self.artifacts[f"{name}.bin"] = content
            child = script(f"DAG-{name}-child", f"print('{name}')", parents=[f"DAG-{name}"])
            if self._did(peer, Opcode.SUBMIT_DAG, f"{script(f'DAG-{name}', 'pass')} ; {child}"):
                self.jobs += [f"DAG-{name}", f"DAG-{name}-child"]
                self._did(peer, Opcode.GET_LOGS, f"DAG-{name}")

    def _did(self, peer: Peer, opcode: Opcode, payload: str) -> bool:
        try:
            text = peer.ask(opcode, payload).text
        except (OSError, EOFError) as exc:
            text = f"ERROR: {exc!r}"
        failed = text.startswith(("ERROR", "SERVER_ERROR", "UPLOAD_FAILED"))
        self.refused[opcode.name] += failed
        return not failed

    def check(self, peer: Peer) -> list[str]:
        """What was acknowledged and is not so."""
        problems = [
            f"value {key} is lost" for key, value in self.values.items() if peer.ask(0x61, key).text != value
        ]
        lost = self.members - set(peer.ask(Opcode.KV_SMEMBERS, "set").text.split(","))
        problems += [f"member {name} is lost" for name in lost]
        problems += [
            f"artifact {name} is lost"
            for name, content in self.artifacts.items()
            if peer.ask(0x54, name).text != content
        ]
        for job_id in self.jobs:
            if peer.until(job_id, seconds=120) != "COMPLETED":
                self.dead += 1
                told = json.loads(peer.ask(Opcode.JOB_INFO, json.dumps({"id": job_id})).text)
                if not told["reason"]:
                    problems.append(f"{job_id} is {told['state']} without a reason")
        return problems


SWEEPS = [
    *((call, error, range(1, step + 1), step, "work") for call, (error, step) in CALLS.items()),
    *((call, error, phases, step, "work_large") for call, (error, phases, step) in LARGE.items()),
]


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    ("call", "error", "phases", "step", "work"),
    SWEEPS,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_acknowledged_is_lost_when_a_system_call_fails(
    tmp_path: Path, call: str, error: str, phases: range, step: int, work: str
) -> None:
    master, client, failed = MasterProcess(tmp_path / "data"), Client(), 0
    with (tmp_path / "errors").open("wb") as errors:
        peer = master.start(errors)
        try:
            client.work(peer)  # what is made once, and modules, are there from now on
            assert not client.refused.total()
            for phase in phases[:PHASES]:
                log = tmp_path / f"{call}-{phase}"
                with Failing(master.pid, call, error, f"{phase}+{step}", log) as failing:
                    getattr(client, work)(peer)
                failed += failing.count
            assert client.check(peer) == []
            master.kill()
            peer = master.start(errors)
            assert client.check(peer) == []
        finally:
            master.close()
    print(f"{failed} failed calls; refused: {dict(client.refused)}; {client.dead} jobs DEAD with a reason")
