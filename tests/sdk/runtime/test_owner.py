"""A job with an owner's lease ends when nobody renews it, and only then."""

from __future__ import annotations

import itertools
import json
import time

import pytest

from tests.support.mini_store import MiniStore
from tests.support.runtime_bench import Bench
from titan_sdk.runtime import keys
from titan_sdk.runtime.spec import RunSpec

# Slow: Leases are seconds of the clock.
pytestmark = pytest.mark.slow

LEASE = 1.0
FRESH = time.time() + 3600
"""A renewal that no start is too slow for; from then on only the text counts."""


def renew(bench: Bench, spec: RunSpec, at: float | None = None) -> None:
    value = json.dumps({"v": 1, "renewed_at": time.time() if at is None else at})
    bench.store.values[keys.lease_key(spec.job_id, spec.nonce)] = value


class Renewing(dict[str, str]):
    """Values of a store in which the owner has always renewed just before somebody looks."""

    numbers = itertools.count()

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        if key.endswith(":lease"):
            self[key] = json.dumps({"v": 1, "renewed_at": time.time(), "number": next(self.numbers)})
        return super().get(key, default)


def reads_of_the_lease(store: MiniStore) -> int:
    return sum(text.endswith(":lease") for _, text in store.requests)


def test_a_job_whose_owner_is_gone_is_ended_and_says_why(bench: Bench) -> None:
    spec = bench.spec("import time; time.sleep(60)", owner_lease=LEASE)
    renew(bench, spec, at=FRESH)
    begun = time.monotonic()
    done = bench.run(spec)
    assert time.monotonic() - begun > LEASE
    state = bench.state(spec)
    assert (state.state, state.signal) == ("failed", "SIGTERM")
    assert state.reason == "nobody has renewed its owner's lease for 1 s, so it was ended"
    assert done.code != 0


def test_a_renewed_lease_ends_nothing(bench: Bench) -> None:
    spec = bench.spec(f"import time; time.sleep({LEASE * 3})", owner_lease=LEASE)
    renew(bench, spec, at=FRESH)
    bench.store.values = Renewing(bench.store.values)
    assert bench.run(spec).code == 0
    assert reads_of_the_lease(bench.store) > 5


def test_a_store_that_is_down_is_no_sign_that_the_owner_is(bench: Bench) -> None:
    fifo = bench.fifo()
    spec = bench.spec(f"open({str(fifo)!r}).read()", owner_lease=LEASE)
    renew(bench, spec, at=FRESH)
    bench.store.values = Renewing(bench.store.values)
    running = bench.start(spec)
    bench.store.wait_until(lambda: bench.has_state(spec, "running"))
    bench.store.store_down = True
    seen = reads_of_the_lease(bench.store)
    # Asked five times per lease: twelve times is more than two leases.
    bench.store.wait_until(lambda: reads_of_the_lease(bench.store) > seen + 12)
    bench.store.store_down = False
    fifo.open("w").close()
    assert running.wait().code == 0


def test_a_job_whose_owner_left_while_it_waited_never_starts(bench: Bench) -> None:
    spec = bench.spec("print('ran')", owner_lease=LEASE)
    renew(bench, spec, at=time.time() - 3600)
    done = bench.run(spec)
    assert done.code == 98
    assert "ran" not in done.text.split()
    assert "nobody has renewed its owner's lease" in (bench.state(spec).reason or "")


def test_an_owner_with_a_clock_of_its_own_is_believed_once_it_renews(bench: Bench) -> None:
    spec = bench.spec("print('ran')", owner_lease=60.0)  # the time for the second renewal; it costs none
    renew(bench, spec, at=1.0)
    running = bench.start(spec)
    bench.store.wait_until(lambda: reads_of_the_lease(bench.store) > 1)
    renew(bench, spec, at=2.0)
    done = running.wait()
    assert (done.code, done.text) == (0, "ran\n")


def test_without_a_lease_nobody_is_asked(bench: Bench) -> None:
    assert bench.run(bench.spec("print(1)")).code == 0
    assert reads_of_the_lease(bench.store) == 0
