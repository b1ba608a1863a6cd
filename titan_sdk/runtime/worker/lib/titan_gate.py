"""The script of an approval gate: asks a question, waits for a person's decision, and ends accordingly.

Arguments: the gate's id, the longest wait in seconds, and the question. The gate writes WAITING to TitanStore, and reads
the answer from the same key, where Titan's dashboard, the ``titan`` command and the SDK write it. Only a decision during
the wait counts, so an old stored one approves nothing. The submitter stores the question.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time

titan_job = importlib.import_module("titan_job")  # beside this file in the zip, on the worker's path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, NoReturn

KV_SET, KV_GET, KV_SADD = 0x60, 0x61, 0x62
POLL_EVERY = 1.0


class Rejected(Exception):
    """A person rejected the gate."""


class NoDecision(Exception):
    """The gate's time passed without a decision."""


class Gate:
    """The keys of one gate in TitanStore. While the store is unreachable, every step is repeated."""

    def __init__(self, name: str, host: str, port: int) -> None:
        # The launcher's client travels in the same zip as titan_job.
        sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(str(titan_job.__file__)))))
        store: Any = importlib.import_module("titan_runtime.store")
        self._failure = store.StoreError
        self._master = store.StoreConnection(host, port)
        self._name = name

    def announce(self) -> None:
        """Add the gate to the list of waiting gates."""
        self._call(KV_SET, "titan:hitl:ts:%s|%d" % (self._name, time.time() * 1000))
        self._call(KV_SADD, "titan:hitl:queue|%s" % self._name)
        self.say("WAITING")

    def say(self, word: str) -> None:
        self._call(KV_SET, "titan:hitl:status:%s|%s" % (self._name, word))

    def word(self) -> str:
        """The gate's state in the store; empty if it cannot be read."""
        return self._call(KV_GET, "titan:hitl:status:" + self._name)

    def _call(self, opcode: int, text: str) -> str:
        try:
            return str(self._master.call(opcode, text.encode("ascii")).decode("ascii", "replace")).strip()
        except self._failure:
            return ""


def wait(gate: Gate, seconds: float) -> str:
    """APPROVED, REJECTED or TIMEOUT."""
    until = time.monotonic() + seconds
    gate.announce()
    while True:
        word = gate.word()
        if word in ("APPROVED", "REJECTED"):
            return word
        left = until - time.monotonic()
        if left <= 0:
            gate.say("TIMEOUT")
            return "TIMEOUT"
        if word and word != "WAITING":
            # The store was away at the write, or another client has reset the key.
            gate.announce()
        time.sleep(min(POLL_EVERY, left))


def _stop(*_: Any) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def main(arguments: List[str]) -> None:
    name, seconds, message = arguments[0], float(arguments[1]), arguments[2]
    signal.signal(signal.SIGTERM, _stop)
    print("%s waits for a decision, at most %g s: %s" % (name, seconds, message))
    gate = Gate(name, os.environ["TITAN_HOST"], int(os.environ["TITAN_PORT"]))
    begun = time.monotonic()
    word = "CLEARED"
    try:
        word = wait(gate, seconds)
    finally:
        if word == "CLEARED":
            # Cancelled: the list of waiting gates must no longer show this one.
            gate.say(word)
    waited = time.monotonic() - begun
    titan_job.result({"decision": word, "waited_seconds": round(waited, 1)})
    if word == "REJECTED":
        raise Rejected("rejected after %d s: %s" % (waited, message))
    if word == "TIMEOUT":
        raise NoDecision("nobody decided within %g s: %s" % (seconds, message))
    print("approved after %d s" % waited)


if __name__ == "__main__":
    main(sys.argv[1:])
