from __future__ import annotations

import asyncio
import inspect
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_version import AIRFLOW_2, needs_airflow_3
from titan_provider.events import JobEvent, Outcome
from titan_provider.triggers import cancellation, compat
from titan_provider.triggers.job import TitanJobTrigger
from titan_provider.work import joblog
from titan_provider.work.joblog import LogCursor
from titan_sdk import AsyncTitanClient, JobStatus, TitanClient

# Slow: Triggers time out, lose their master and are killed.
pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_connection"), pytest.mark.slow]

Submit = Callable[..., str]


class Lines:
    """The task log, as far as a trigger writes it."""

    def __init__(self) -> None:
        self.copied: list[str] = []
        self.records: list[tuple[str, object]] = []
        """Also the time a line brought along."""
        self.enough = asyncio.Event()
        self.wanted = 0

    def info(self, event: str, *args: object, **fields: object) -> None:
        text = event % args
        if text.startswith("::"):
            return
        self.copied.append(text)
        self.records.append((text, fields.get("timestamp")))
        if len(self.copied) == self.wanted:
            self.enough.set()

    warning = error = exception = debug = info


def make(job_id: str, **arguments: Any) -> tuple[TitanJobTrigger, Lines]:
    trigger = TitanJobTrigger("titan_default", job_id, poll_interval=0.05, **arguments)
    lines = Lines()
    trigger._log = lines  # type: ignore[assignment]
    return trigger, lines


async def fire(trigger: TitanJobTrigger) -> JobEvent:
    events = [event async for event in trigger.run()]
    assert len(events) == 1
    return JobEvent.from_dict(events[0].payload)


def test_it_is_rebuilt_exactly_from_what_it_serializes() -> None:
    """For every parameter, each with a value that is not the default."""
    given = {
        "titan_conn_id": "other",
        "job_id": "job",
        "requirement": "GPU",
        "poll_interval": 9.5,
        "deadline": 12.25,
        "placement_deadline": 13.5,
        "unreachable_timeout": 7.0,
        "cancel_on_kill": False,
        "nonce": "0" * 16,
        "owner_lease": 60.0,
        "log_key": "key",
        "master": "127.0.0.1:9",
    }
    assert set(given) == set(inspect.signature(TitanJobTrigger).parameters)
    path, arguments = TitanJobTrigger(**given).serialize()  # type: ignore[arg-type]
    assert path == "titan_provider.triggers.job.TitanJobTrigger"
    assert arguments == given


def test_the_place_of_the_log_position_is_chosen_once() -> None:
    _, arguments = TitanJobTrigger("c", "job").serialize()
    assert TitanJobTrigger(**arguments).serialize()[1] == arguments


async def test_it_copies_the_log_and_fires_when_the_job_has_ended(submit: Submit) -> None:
    job_id = submit("print('one')\nprint('two', end='')")
    trigger, lines = make(job_id)
    event = await fire(trigger)
    assert (event.outcome, event.statuses) == (Outcome.ENDED, {job_id: JobStatus.COMPLETED})
    assert [line for line in lines.copied if not line.startswith("Job ")] == ["one", "two"]
    assert event.log_lines == 2


async def test_a_failed_job_is_an_end_as_well(submit: Submit) -> None:
    job_id = submit("raise SystemExit(3)")
    event = await fire(make(job_id)[0])
    assert event.statuses == {job_id: JobStatus.DEAD}


async def test_a_triggerer_that_stops_does_not_ask_for_every_trigger_at_once(
    submit: Submit, client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a connection each, five thousand of them would shut out everybody else."""
    job_id = submit("print(1)", requirement="QUANTUM")
    made = [make(job_id) for _ in range(50)]
    for _, lines in made:
        lines.wanted = 1
    waiting = [asyncio.create_task(fire(trigger)) for trigger, _ in made]
    for _, lines in made:
        await asyncio.wait_for(lines.enough.wait(), 20)  # told why the job waits
    stored: list[str] = []
    monkeypatch.setattr(AsyncTitanClient, "store_put", lambda _, key, value: stored.append(key))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert stored == [], "none of them had copied a line"
    client.cancel_job(job_id)


async def test_another_triggerer_goes_on_in_the_log_where_one_stopped(
    submit: Submit, client: TitanClient, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job_id = submit(
        "import os, time\nprint('one')\nprint('two')\n"
        "while not os.path.exists(os.environ['GATE']): time.sleep(0.02)\n"
        "print('three')",
        env={"GATE": str(gate)},
    )
    first, seen = make(job_id)
    seen.wanted = 2
    running = asyncio.create_task(fire(first))
    await asyncio.wait_for(seen.enough.wait(), 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert client.get_job_status(job_id) is JobStatus.RUNNING

    second = TitanJobTrigger(**first.serialize()[1])
    more = Lines()
    second._log = more  # type: ignore[assignment]
    gate.touch()
    event = await fire(second)
    assert more.copied == ["three"]
    assert event.log_lines == 3


@needs_airflow_3(
    "its loggers give lines the time of writing, so a killed triggerer's last page may show twice"
)
async def test_lines_that_a_killed_triggerer_wrote_are_written_again_as_the_same_records(
    submit: Submit, client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after it wrote a page and before it could remember that: Airflow's log reader drops equal neighbours."""
    job_id = submit("for n in range(300): print(n)")
    client.wait_for_job(job_id, timeout=120)
    first, seen = make(job_id)

    class Killed(BaseException):
        pass

    def die(_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(joblog.JobLog, "finish", die)
        with pytest.raises(Killed):
            await fire(first)
    again, more = TitanJobTrigger(**first.serialize()[1]), Lines()
    again._log = more  # type: ignore[assignment]
    event = await fire(again)
    assert [text for text, _ in seen.records] == [str(n) for n in range(300)]
    assert more.records == seen.records
    assert len({at for _, at in seen.records}) == 300
    assert event.log_lines == 300


class Triggerer:
    """Airflow's main process, which reads the lines of its triggers when it comes round to that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._triggers, self._reads = socket.socketpair()
        self._looks, self._looked = 0, asyncio.Event()
        monkeypatch.setattr(compat, "log_channel", self._look)

    def _look(self) -> int:
        self._looks -= 1
        if self._looks == 0:
            self._looked.set()
        return self._triggers.fileno()

    async def until_looked_at(self, times: int) -> None:
        self._looks = times
        self._looked.clear()
        await asyncio.wait_for(self._looked.wait(), 60)

    def write(self, lines: Lines) -> None:
        """From now on these lines go through the socket."""
        copy = lines.copied.append

        class Sent(list[str]):
            def append(self, line: str) -> None:
                other._triggers.sendall(line.encode() + b"\n")
                copy(line)

        other = self
        lines.copied = Sent()

    def read(self) -> bytes:
        return self._reads.recv(1 << 20)

    def close(self) -> None:
        self._triggers.close()
        self._reads.close()


@pytest.fixture
def triggerer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Triggerer]:
    made = Triggerer(monkeypatch)
    yield made
    made.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much of a socket has been read")
async def test_no_line_counts_as_copied_that_airflow_has_not_read(
    submit: Submit, client: TitanClient, triggerer: Triggerer
) -> None:
    """Its main process reads 4 KiB per turn; what it has not read is lost with it, or once the trigger has ended."""
    job_id = submit("for n in range(100): print(n)")
    client.wait_for_job(job_id, timeout=120)
    first, lines = make(job_id)
    triggerer.write(lines)
    task = asyncio.create_task(fire(first))
    await triggerer.until_looked_at(4)
    assert not task.done(), "all is copied, but the triggerer knows nothing of it"
    saved = LogCursor.from_text(client.store_get(first.log_key))
    assert saved is not None
    assert (saved.lines, saved.position) == (0, 0)
    task.cancel()  # with the triggerer
    await asyncio.gather(task, return_exceptions=True)

    again, more = TitanJobTrigger(**first.serialize()[1]), Lines()
    again._log = more  # type: ignore[assignment]
    triggerer.write(more)
    task = asyncio.create_task(fire(again))
    await triggerer.until_looked_at(4)
    assert not task.done()
    assert triggerer.read().split()[:3] == [b"0", b"1", b"2"]
    assert (await asyncio.wait_for(task, 30)).log_lines == 100
    assert more.records == lines.records[:100], "as the same records, which Airflow shows once"


async def test_the_lease_is_renewed_while_the_trigger_lives(submit: Submit, client: TitanClient) -> None:
    # Renewed four times per second, and for longer than the job's own lease; a machine may stand still for some seconds.
    job_id = submit("import time; time.sleep(8)", owner_lease=6.0)
    event = await fire(make(job_id, owner_lease=1.0)[0])
    assert event.statuses == {job_id: JobStatus.COMPLETED}


async def test_a_job_that_nobody_waits_for_ends_by_its_lease(submit: Submit, client: TitanClient) -> None:
    """As when a person marks the task before any triggerer has started the trigger."""
    job_id = submit("import time; time.sleep(600)", owner_lease=1.0)
    report = client.wait_for_job(job_id, timeout=120, raise_on_failure=False)
    assert report.state is JobStatus.DEAD
    assert "nobody has renewed its owner's lease" in report.describe()


async def test_the_deadline_cancels_the_job(submit: Submit, client: TitanClient) -> None:
    job_id = submit("import time; time.sleep(600)")
    event = await fire(make(job_id, deadline=time.time() + 0.5)[0])
    assert event.outcome is Outcome.TIMED_OUT
    assert event.message == f"execution_timeout was over; job {job_id!r} was cancelled"
    assert client.get_job_status(job_id) is JobStatus.CANCELLED


async def test_a_deadline_that_passed_while_no_triggerer_ran_still_counts(
    submit: Submit, client: TitanClient
) -> None:
    job_id = submit("import time; time.sleep(600)")
    event = await fire(make(job_id, deadline=time.time() - 5)[0])
    assert event.outcome is Outcome.TIMED_OUT
    assert client.get_job_status(job_id) is JobStatus.CANCELLED


async def test_a_job_that_does_not_start_in_time_is_cancelled(submit: Submit, client: TitanClient) -> None:
    job_id = submit("print(1)", requirement="QUANTUM")
    trigger, lines = make(job_id, requirement="QUANTUM", placement_deadline=time.time() + 0.2)
    event = await fire(trigger)
    assert event.outcome is Outcome.NOT_PLACED
    assert "no worker has the tag 'QUANTUM'" in event.message
    assert sum("Waiting for a worker" in line for line in lines.copied) == 1
    assert client.get_job_status(job_id) is JobStatus.CANCELLED


async def test_a_silent_master_is_not_a_failed_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", "titan://127.0.0.1:9")
    event = await fire(make("some-job", unreachable_timeout=0.3)[0])
    assert event.outcome is Outcome.UNREACHABLE
    assert "may still be running" in event.message


async def test_a_job_nobody_knows_is_given_up_after_a_while() -> None:
    event = await fire(make("never-submitted", unreachable_timeout=0.3)[0])
    assert event.outcome is Outcome.UNREACHABLE
    assert "does not know the job 'never-submitted'" in event.message


async def test_a_missing_connection_is_an_event_too() -> None:
    trigger, _ = make("some-job")
    trigger.titan_conn_id = "nobody"
    event = await fire(trigger)
    assert event.outcome is Outcome.FAILED
    assert "nobody" in event.message


class TestKill:
    """`on_kill`, with what Airflow's API would say of the task's state."""

    @pytest.fixture(autouse=True)
    def _state(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state: object = None

        async def answer(_: object) -> object:
            if isinstance(self.state, Exception):
                raise self.state
            return self.state

        monkeypatch.setattr(cancellation, "current_task_state", answer)

    @pytest.mark.parametrize("state", ["failed", "success", "removed", None])
    async def test_a_killed_task_takes_its_job_along(
        self, submit: Submit, client: TitanClient, state: str | None
    ) -> None:
        job_id = submit("print(1)", requirement="QUANTUM")
        self.state = state
        await make(job_id)[0].on_kill()
        assert client.get_job_status(job_id) is JobStatus.CANCELLED

    @pytest.mark.parametrize("state", ["deferred", RuntimeError("API server is away")])
    async def test_a_trigger_that_only_moves_leaves_the_job_alone(
        self, submit: Submit, client: TitanClient, monkeypatch: pytest.MonkeyPatch, state: object
    ) -> None:
        monkeypatch.setattr(cancellation, "_PATIENCE", 0.5)
        job_id = submit("print(1)", requirement="QUANTUM")
        self.state = state
        trigger, lines = make(job_id)
        await trigger.on_kill()
        assert client.get_job_status(job_id) is JobStatus.PENDING
        if state != "deferred":
            assert "may still be running, because Airflow's triggerer did not tell" in lines.copied[-1]
        client.cancel_job(job_id)

    async def test_a_state_that_is_told_too_late_for_airflow_still_ends_the_job(
        self, submit: Submit, client: TitanClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first question after a triggerer's start has taken a minute to answer; Airflow gives a kill 30 s."""
        built, answers = asyncio.Event(), iter([RuntimeError("not yet"), "failed"])

        async def state_of(_: object) -> str:
            await built.wait()
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(cancellation, "current_task_state", state_of)
        monkeypatch.setattr(cancellation, "_SECONDS", 0.1)
        monkeypatch.setattr(cancellation, "_AGAIN", 0.01)
        job_id = submit("print(1)", requirement="QUANTUM")
        trigger, lines = make(job_id)
        await trigger.on_kill()
        assert "is not cancelled yet" in lines.copied[-1]
        assert client.get_job_status(job_id) is JobStatus.PENDING
        built.set()
        await asyncio.gather(*cancellation._under_way)
        assert client.get_job_status(job_id) is JobStatus.CANCELLED
        assert f"Task is failed: cancelled job {job_id}" in lines.copied[-1]

    @needs_airflow_3("a trigger learns of a kill by cleanup() alone")
    async def test_the_first_trigger_of_a_triggerer_has_airflow_ready_for_a_kill(
        self, submit: Submit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[object] = []

        async def state_of(trigger: object) -> str:
            asked.append(trigger)
            if len(asked) == 1:
                raise RuntimeError("no API yet")
            return "deferred"

        monkeypatch.setattr(cancellation, "current_task_state", state_of)
        job_id = submit("print(1)")
        await fire(make(job_id)[0])
        assert asked == [], "not in `dags test`, whose process answers one request at a time"
        monkeypatch.setattr(cancellation, "in_triggerer", lambda: True)
        made = [make(job_id) for _ in range(3)]
        for trigger, _ in made:
            await fire(trigger)
        assert asked == [trigger for trigger, _ in made[:2]]
        warned = [
            any("cannot cancel its job: no API yet" in line for line in lines.copied) for _, lines in made
        ]
        assert warned == [True, False, False]

    @needs_airflow_3("its triggerer cancels once")
    async def test_a_kill_that_airflow_repeats_is_carried_out(
        self, submit: Submit, client: TitanClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow.jobs.triggerer_job_runner import TriggerRunner

        asked, answer = asyncio.Event(), asyncio.Event()

        async def state_of(_: object) -> str:
            asked.set()
            await answer.wait()
            return "failed"

        monkeypatch.setattr(cancellation, "current_task_state", state_of)
        job_id = submit("print(1)", requirement="QUANTUM")
        trigger, lines = make(job_id)
        lines.wanted = 1  # why it waits
        runner = TriggerRunner()
        runner.triggers[1] = {"name": "one", "events": 0, "is_watcher": False}  # type: ignore[typeddict-item]
        runner.triggers[1]["task"] = task = asyncio.create_task(runner.run_trigger(1, trigger))
        await asyncio.wait_for(lines.enough.wait(), 30)
        for _ in range(4):  # as its main loop does every second
            runner.to_cancel.append(1)
            await runner.cancel_triggers()
            await asyncio.wait_for(asked.wait(), 30)
        answer.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        end = await asyncio.to_thread(client.wait_for_job, job_id, timeout=20, raise_on_failure=False)
        assert end.state is JobStatus.CANCELLED

    async def test_a_kill_that_cannot_reach_the_master_says_so(self, submit: Submit) -> None:
        self.state = "failed"
        trigger, lines = make("some-job")
        trigger.titan_conn_id = "nobody"
        await trigger.on_kill()
        assert "job some-job could not be cancelled and may still be running" in lines.copied[-1]

    async def test_it_may_be_told_not_to(self, submit: Submit, client: TitanClient) -> None:
        job_id = submit("print(1)", requirement="QUANTUM")
        self.state = "failed"
        await make(job_id, cancel_on_kill=False)[0].on_kill()
        assert client.get_job_status(job_id) is JobStatus.PENDING
        client.cancel_job(job_id)

    @needs_airflow_3("a trigger learns of a kill by cleanup() alone")
    async def test_cleanup_never_cancels(self, submit: Submit, client: TitanClient) -> None:
        job_id = submit("print(1)", requirement="QUANTUM")
        self.state = "failed"
        await make(job_id)[0].cleanup()
        assert client.get_job_status(job_id) is JobStatus.PENDING
        client.cancel_job(job_id)

    @pytest.mark.skipif(not AIRFLOW_2, reason="Airflow 3 calls on_kill")
    @pytest.mark.parametrize(
        ("state", "status"), [("failed", JobStatus.CANCELLED), ("deferred", JobStatus.PENDING)]
    )
    async def test_on_airflow_2_cleanup_cancels_what_is_not_deferred_any_more(
        self, submit: Submit, client: TitanClient, state: str, status: JobStatus
    ) -> None:
        job_id = submit("print(1)", requirement="QUANTUM")
        self.state = state
        await make(job_id)[0].cleanup()
        assert client.get_job_status(job_id) is status
        client.cancel_job(job_id)
