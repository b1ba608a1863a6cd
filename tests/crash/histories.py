"""What several clients see of a few keys, request by request."""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.linearizability import UNKNOWN, Event, Step, is_linearizable, members, register
from titan_sdk import TitanClient, TransportError

REQUESTS = 6
"""Of each client in one history."""


class Recorder:
    """One client's part of a history: it asks at random, and writes down what it asked and was answered."""

    def __init__(self, client: TitanClient, chance: random.Random, name: str, keys: Sequence[str]) -> None:
        self._client, self._chance, self._name = client, chance, name
        self._keys = keys
        self._numbers = itertools.count()
        self._seen: dict[str, str | None] = {}
        self.events: list[tuple[str, Event]] = []
        self.doubts = 0

    def run(self, start: threading.Barrier) -> None:
        start.wait(300)
        for _ in range(REQUESTS):
            key = self._chance.choice(self._keys)
            self._add_or_look(key) if key.startswith("set") else self._write_or_read(key)

    def read(self, key: str) -> None:
        """How it ended."""
        if key.startswith("set"):
            self._ask(key, "members", (), lambda: self._client.store_smembers(key))
        else:
            self._seen[key] = self._ask(key, "get", (), lambda: self._client.store_get(key))

    def _write_or_read(self, key: str) -> None:
        value = (
            f"{self._name}.{next(self._numbers)}"  # of its own, so that nobody else's explains what is read
        )
        what = self._chance.choice(["put", "swap", "swap", "get", "delete"])
        if what == "get":
            self.read(key)
        elif what == "put":
            self._ask(key, what, (value,), lambda: self._client.store_put(key, value))
        elif what == "delete":
            self._ask(key, what, (), lambda: self._client.store_delete(key))
        else:
            self.read(key)
            expected = self._seen.get(key)
            self._ask(key, what, (expected, value), lambda: self._client.store_swap(key, expected, value))

    def _add_or_look(self, key: str) -> None:
        what = self._chance.choice(["add", "add", "members", "delete"])
        member = self._chance.choice("ab")
        if what == "members":
            self.read(key)
        elif what == "add":
            self._ask(key, what, (member,), lambda: self._client.store_sadd(key, member))
        else:
            self._ask(key, what, (), lambda: self._client.store_delete(key))

    def _ask(self, key: str, what: str, arguments: tuple[Any, ...], ask: Callable[[], Any]) -> Any:
        start = time.monotonic()
        try:
            result = ask()
        except TransportError as exc:
            if exc.outcome_unknown:
                self.doubts += 1
                self.events.append((key, Event(what, arguments, start, math.inf, UNKNOWN)))
            return None  # else it was not carried out, or only asked
        self.events.append((key, Event(what, arguments, start, time.monotonic(), result)))
        return result


def record(
    clients: Sequence[TitanClient], threads: ThreadPoolExecutor, chance: random.Random
) -> list[Recorder]:
    """One history of keys that nobody used before."""
    mark = uuid.uuid4().hex
    keys = [f"{kind}-{mark}" for kind in ("one", "two", "set")]
    barrier = threading.Barrier(len(clients))
    recorders = [
        Recorder(client, random.Random(chance.random()), f"c{number}", keys)
        for number, client in enumerate(clients)
    ]
    for running in [threads.submit(recorder.run, barrier) for recorder in recorders]:
        running.result(timeout=300)
    for key in keys:
        recorders[0].read(key)
    return recorders


def wrong_keys(recorders: Sequence[Recorder]) -> dict[str, list[Event]]:
    """What was seen of each key of which no order explains it."""
    by_key: dict[str, list[Event]] = {}
    for recorder in recorders:
        for key, event in recorder.events:
            by_key.setdefault(key, []).append(event)
    rules: dict[bool, tuple[Step, Any]] = {True: (members, frozenset()), False: (register, None)}
    return {
        key: sorted(events, key=lambda event: event.start)
        for key, events in by_key.items()
        if not is_linearizable(events, *rules[key.startswith("set")])
    }
