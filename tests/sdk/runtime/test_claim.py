"""The user's code runs once, or as often as max_attempts says, however often the master starts the launcher."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.support.mini_store import JOB_STATUS
from tests.support.runtime_bench import Bench, Watch
from titan_sdk.runtime import keys
from titan_sdk.runtime.spec import RunSpec

COUNT = "import os\nfd = os.open('runs', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\nos.write(fd, b'x')\nprint('run')\n"


def runs(bench: Bench) -> int:
    path = bench.shared / "runs"
    return path.stat().st_size if path.exists() else 0


def state_key(spec: RunSpec) -> str:
    return keys.state_key(spec.job_id, spec.nonce)


def record(bench: Bench, spec: RunSpec, **changes: object) -> None:
    """Put a state record of another copy, on another machine, into the store."""
    fields = {
        "v": 1, "state": "running", "attempt": 1, "token": "feed", "worker": "w", "host": "elsewhere", "pid": 1,
        "started_at": 1.0, "ended_at": None, "heartbeat_at": time.time(), "exit_code": None, "signal": None,
        "exception": None, "reason": None, "progress": None, "log_chunks": 0, "result": None, "processes": None,
    }  # fmt: skip
    bench.store.values[state_key(spec)] = json.dumps({**fields, **changes})


def test_a_succeeded_job_is_not_run_again_and_stays_succeeded(bench: Bench) -> None:
    spec = bench.spec(COUNT, max_attempts=3)
    assert bench.run(spec).code == 0
    before = bench.store.values[state_key(spec)]
    done = bench.run(spec)
    assert done.code == 0
    assert done.text == "titan-runtime: attempt 1 of this job has already succeeded; nothing is run again\n"
    assert (runs(bench), bench.store.values[state_key(spec)]) == (1, before)


def test_a_failed_job_is_refused_when_its_attempts_are_used_up(bench: Bench) -> None:
    spec = bench.spec(COUNT + "raise SystemExit(5)", max_attempts=2)
    assert [bench.run(spec).code for _ in range(4)] == [5, 5, 98, 98]
    assert runs(bench) == 2
    state = bench.state(spec)
    assert (state.state, state.attempt, state.exit_code) == ("failed", 2, 5)


def test_the_refusal_says_what_happened(bench: Bench) -> None:
    spec = bench.spec("raise SystemExit(5)")
    bench.run(spec)
    assert bench.run(spec).text == (
        "titan-runtime: attempt 1 of 1 failed (exit code 5); the master asked for one more, which max_attempts=1 rules out\n"
    )


def test_log_chunks_are_numbered_on_over_attempts(bench: Bench) -> None:
    spec = bench.spec(
        "import os\nprint('attempt', os.environ['TITAN_ATTEMPT'])\nraise SystemExit(os.environ['TITAN_ATTEMPT'] != '3')",
        max_attempts=3,
    )
    for _ in range(3):
        bench.run(spec)
    log = bench.log(spec)
    assert [line for line in log.splitlines() if line.startswith("attempt")] == [
        "attempt 1",
        "attempt 2",
        "attempt 3",
    ]
    assert bench.state(spec).log_chunks == 3


def test_another_submission_of_the_same_id_runs(bench: Bench) -> None:
    for _ in range(2):
        assert bench.run(bench.spec(COUNT)).code == 0
    assert runs(bench) == 2


@pytest.mark.parametrize(("attempts", "code", "ran"), [(1, 98, 1), (2, 0, 2)])
def test_a_launcher_killed_on_this_machine_counts_as_an_attempt_at_once(
    bench: Bench, attempts: int, code: int, ran: int
) -> None:
    fifo = bench.fifo()
    source = (
        COUNT
        + f"if os.environ['TITAN_ATTEMPT'] == '1':\n    print(os.getppid(), file=open({str(fifo)!r}, 'w'))\n    import time\n    time.sleep(60)\n"
    )
    spec = bench.spec(source, max_attempts=attempts)
    running = bench.start(spec)
    guard = Watch(int(fifo.read_text()))
    bench.store.wait_until(lambda: bench.has_state(spec, "running"))
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert guard.has_ended()
    guard.close()
    begun = time.monotonic()
    assert bench.run(spec, TITAN_RUNTIME_LEASE="300").code == code
    assert time.monotonic() - begun < 20
    assert runs(bench) == ran
    if attempts == 1:
        state = bench.state(spec)
        assert (state.state, state.attempt) == ("failed", 1)
        assert state.reason is not None
        assert "its launcher was ended by SIGKILL" in state.reason


def test_a_copy_elsewhere_that_has_gone_silent_is_declared_lost_after_the_lease(bench: Bench) -> None:
    spec = bench.spec(COUNT, max_attempts=2)
    record(bench, spec)
    bench.store.values[keys.log_key(spec.job_id, spec.nonce, 0)] = '{"v":1,"attempt":1,"text":"first\\n"}'
    done = bench.run(spec, TITAN_RUNTIME_LEASE="0.5")
    assert done.code == 0
    assert "attempt 1 is recorded as running on elsewhere; waiting for its end" in done.text
    assert bench.state(spec).attempt == 2
    first, lost, run = bench.log(spec).splitlines()
    assert (first, run) == ("first", "run")
    assert lost == (
        "titan-runtime: attempt 1 was lost: its launcher on elsewhere ended without a word: "
        "killed, or the machine went down"
    )


def test_a_second_copy_waits_for_the_first_and_takes_over_its_outcome(bench: Bench) -> None:
    """As when a restarted master runs a job again that is still running."""
    fifo = bench.fifo()
    spec = bench.spec(COUNT + f"open({str(fifo)!r}).read()")
    first = bench.start(spec)
    bench.store.wait_until(lambda: bench.has_state(spec, "running"))
    second = bench.start(spec, TITAN_RUNTIME_LEASE="300")
    assert second.process.stdout is not None
    assert b"waiting for its end" in second.process.stdout.readline()
    fifo.open("w").close()
    assert first.wait().code == 0
    assert second.wait().code == 0
    assert runs(bench) == 1


def test_a_waiting_copy_can_be_stopped(bench: Bench) -> None:
    spec = bench.spec(COUNT)
    record(bench, spec)
    running = bench.start(spec, TITAN_RUNTIME_LEASE="300")
    assert running.process.stdout is not None
    running.process.stdout.readline()
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait().code == 143
    assert runs(bench) == 0


def test_a_copy_that_was_overtaken_ends_itself_and_writes_nothing(bench: Bench) -> None:
    fifo = bench.fifo()
    spec = bench.spec(f"import time\nopen({str(fifo)!r}, 'w').close()\ntime.sleep(60)")
    running = bench.start(spec, TITAN_RUNTIME_HEARTBEAT="0.1")
    fifo.open().close()

    def overtakes() -> bool:
        # Not between a heartbeat's look and its write, which would undo it: here the writer has just been answered.
        if not bench.has_state(spec, "running") or bench.store.requests[-1][0] != JOB_STATUS:
            return False
        record(bench, spec, state="failed", token="other")
        return True

    bench.store.wait_until(overtakes)
    done = running.wait()
    assert done.code == 98
    assert "another copy of this job has taken over" in done.text
    assert bench.state(spec).token == "other"


@pytest.mark.parametrize(
    ("parent", "told"),
    [(None, "has not run"), ("failed", "is recorded as failed"), ("running", "is recorded as running")],
)
def test_a_job_whose_parent_has_not_succeeded_is_refused(bench: Bench, parent: str | None, told: str) -> None:
    spec = bench.spec(COUNT, parents={"DAG-up": "a" * 16})
    if parent:
        above = bench.spec("pass", job_id="DAG-up")
        record(bench, above, state=parent)
        bench.store.values["titan:run:DAG-up:" + "a" * 16 + ":state"] = bench.store.values.pop(
            state_key(above)
        )
    done = bench.run(spec)
    assert done.code == 98
    assert done.text == f"titan-runtime: parent DAG-up {told}, so this job is not started\n"
    assert runs(bench) == 0
    state = bench.state(spec)
    assert (state.state, state.attempt) == ("failed", 0)


def test_a_refusal_for_parents_uses_no_attempt_up(bench: Bench) -> None:
    above = bench.spec("pass", job_id="DAG-up")
    spec = bench.spec(COUNT, parents={"DAG-up": above.nonce})
    assert bench.run(spec).code == 98
    assert bench.run(above).code == 0
    assert bench.run(spec).code == 0
    assert bench.state(spec).attempt == 1


def test_a_record_that_cannot_be_read_is_no_licence_to_run(bench: Bench) -> None:
    spec = bench.spec(COUNT)
    bench.store.values[state_key(spec)] = '{"state": "running"'
    done = bench.run(spec)
    assert done.code == 98
    assert "cannot read" in done.text
    assert runs(bench) == 0


def test_a_script_that_cannot_be_fetched_uses_no_attempt_up(bench: Bench) -> None:
    filler = "".join(f"# {os.urandom(30).hex()}\n" for _ in range(2000))
    spec = bench.spec(COUNT + filler)
    assert spec.script.asset is not None
    blob = bench.store.assets.pop(spec.script.asset)
    done = bench.run(spec, TITAN_RUNTIME_START_PATIENCE="0.2")
    assert done.code == 97
    assert "the script cannot be fetched: " in done.text
    assert bench.state(spec).attempt == 0
    bench.store.assets[spec.script.asset] = blob
    assert bench.run(spec).code == 0
    assert runs(bench) == 1


def test_a_worker_without_room_for_the_script_says_so(bench: Bench) -> None:
    spec = bench.spec(COUNT)
    done = bench.run(spec, TMPDIR="/proc/nowhere")
    assert done.code == 98
    assert "the script cannot be put in place on this worker: " in done.text
    assert "/proc/nowhere" in (bench.state(spec).reason or "")
