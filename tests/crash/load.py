"""A client that does a bit of everything, and remembers what it was told was done."""

from __future__ import annotations

import base64
import itertools
import random
import threading
import time
from pathlib import Path

from tests.sdk.cluster.peer import Peer, script

SETTLE_SECONDS = 120


class Load:
    """Set ``peer`` anew after each restart.

    Args:
        excuse: words of a refusal that is no fault; what is refused so is not done, and counted.
    """

    def __init__(self, chance: random.Random, audit: Path, excuse: str | None = None) -> None:
        self._chance, self._audit, self._excuse = chance, audit, excuse
        self.peer: Peer | None = None
        self.good: list[str] = []
        self.bad: list[str] = []
        self.cancelled: set[str] = set()
        """Asked for, whatever the answer: the request may have been carried out without one."""
        self.values: dict[str, str] = {}
        self.artifacts: dict[str, str] = {}
        self.unanswered = 0
        self.refused = 0
        self._number = 0
        self.under_way = threading.Event()
        """Something of each kind was acknowledged, so a kill from now on has all of it to lose."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def settle(self) -> None:
        """Wait until every acknowledged job has ended."""
        assert self.peer is not None
        deadline = time.monotonic() + SETTLE_SECONDS
        for job_id in self.good + self.bad:
            self.peer.until(job_id, seconds=deadline - time.monotonic())

    def counts(self) -> str:
        return (
            f"{len(self.good)} jobs, {len(self.bad)} that fail, {len(self.cancelled)} cancelled, "
            f"{len(self.values)} values, {len(self.artifacts)} artifacts, {self.unanswered} requests without answer"
        )

    def _run(self) -> None:
        acts = [self._job, self._job, self._chain, self._failing, self._value, self._artifact, self._cancel]
        while not self._over.is_set():
            self._number += 1
            try:
                self._chance.choice(acts)(f"n{self._number}")
            except (OSError, EOFError):
                self.unanswered += 1
            if self.good and self.bad and self.values and self.artifacts:
                self.under_way.set()
            # Slower than the machine, or the queue would be all that is ever killed.
            self._over.wait(self._chance.uniform(0.0, 0.1))

    def _code(self, name: str, then: str = "") -> str:
        line = f"DAG-{name}\n".encode()
        return (
            f"import os, time\nfd = os.open({str(self._audit)!r}, os.O_WRONLY | os.O_APPEND)\n"
            f"os.write(fd, {line!r})\nos.write(1, {line!r})\ntime.sleep({self._chance.uniform(0, 0.1):.3f})\n{then}"
        )

    def _send(self, *lines: str) -> bool:
        assert self.peer is not None
        return self._took(self.peer.submit(*lines).text)

    def _took(self, reply: str) -> bool:
        if self._excuse is not None and self._excuse in reply:
            self.refused += 1
            return False
        assert "ERROR" not in reply, reply
        return True

    def _job(self, name: str) -> None:
        if self._send(script(name, self._code(name))):
            self.good.append(f"DAG-{name}")

    def _chain(self, name: str) -> None:
        names = [f"{name}-{n}" for n in range(3)]
        lines = [script(names[0], self._code(names[0]))]
        lines += [
            script(child, self._code(child), parents=[parent]) for parent, child in itertools.pairwise(names)
        ]
        if self._send(*lines):
            self.good += [f"DAG-{one}" for one in names]

    def _failing(self, name: str) -> None:
        if self._send(script(name, self._code(name, "raise SystemExit(3)"), tag="GPU")):
            self.bad.append(f"DAG-{name}")

    def _value(self, name: str) -> None:
        assert self.peer is not None
        value = self._chance.randbytes(self._chance.choice([10, 1000, 100_000])).hex()
        if self._took(self.peer.ask(0x60, f"{name}|{value}").text):
            self.values[name] = value

    def _artifact(self, name: str) -> None:
        assert self.peer is not None
        content = base64.b64encode(self._chance.randbytes(self._chance.choice([10, 300_000]))).decode()
        reply = self.peer.ask(0x53, f"{name}.bin|{content}").text
        assert "ERROR" not in reply, reply
        self.artifacts[f"{name}.bin"] = content

    def _cancel(self, name: str) -> None:
        alone = [job_id for job_id in self.good[-3:] if "-" not in job_id.removeprefix("DAG-")]
        if alone:
            assert self.peer is not None
            victim = self._chance.choice(alone)
            self.cancelled.add(victim)
            self.peer.cancel(victim)
