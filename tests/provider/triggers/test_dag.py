"""TitanDagTrigger against a real master, with triggerers that stop and die."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_run import unique
from tests.support.airflow_version import needs_airflow_3
from titan_provider.events import JobEvent, Outcome
from titan_provider.triggers import cancellation
from titan_provider.triggers.dag import TitanDagTrigger
from titan_provider.work import watch
from titan_provider.work.plan import KnownJob
from titan_sdk import JobStatus, TitanClient, TitanJob

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_connection")]


class Lines:
    """The task log, as far as a trigger writes it."""

    def __init__(self) -> None:
        self.records: list[tuple[str, object]] = []
        """Each line with the time it brought along."""
        self.wanted_text = ""
        self.enough = asyncio.Event()

    def info(self, event: str, *args: object, **fields: object) -> None:
        text = event % args
        self.records.append((text, fields.get("timestamp")))
        if text == self.wanted_text:
            self.enough.set()

    warning = error = exception = debug = info


SubmitDag = Callable[..., dict[str, KnownJob]]


@pytest.fixture
def submit_dag(client: TitanClient, tmp_path: Path) -> SubmitDag:
    """Submit a chain of scripts; the jobs by the names 0, 1, ..."""

    def submit(*scripts: str, **fields: Any) -> dict[str, KnownJob]:
        dag = unique("dag")
        jobs, known = [], {}
        for index, script in enumerate(scripts):
            (tmp_path / f"{index}.py").write_text(script)
            parents = [str(index - 1)] if index else []
            job_id = f"{dag}-{index}"
            ids = [f"{dag}-{p}" for p in parents]
            jobs.append(TitanJob(job_id, str(tmp_path / f"{index}.py"), parents=ids, **fields))
            known[str(index)] = KnownJob(job_id, "", "", tuple(parents))
        handle = client.submit_dag(dag, jobs)
        return {
            name: KnownJob(j.job_id, handle.jobs[0].nonce or "", "", j.parents) for name, j in known.items()
        }

    return submit


def make(jobs: dict[str, KnownJob], **arguments: Any) -> tuple[TitanDagTrigger, Lines]:
    plain = TitanDagTrigger.plain(jobs)
    trigger = TitanDagTrigger("titan_default", plain, poll_interval=0.05, log_interval=0.05, **arguments)
    return trigger, attach(trigger)


def attach(trigger: TitanDagTrigger) -> Lines:
    lines = Lines()
    trigger._log = lines  # type: ignore[assignment]
    return lines


async def fire(trigger: TitanDagTrigger) -> JobEvent:
    (event,) = [event async for event in trigger.run()]
    return JobEvent.from_dict(event.payload)


def numbers(lines: Lines) -> list[tuple[str, object]]:
    return [(text, at) for text, at in lines.records if text.isdigit()]


def test_it_is_rebuilt_exactly_from_what_it_serializes() -> None:
    given = {
        "titan_conn_id": "other",
        "jobs": TitanDagTrigger.plain({"a": KnownJob("id", "0" * 16, "m", ("b",), "GPU", True)}),
        "poll_interval": 9.5,
        "log_interval": 8.5,
        "deadline": 12.25,
        "unreachable_timeout": 7.0,
        "cancel_on_kill": False,
        "log_key": "key",
        "placement_timeout": 5.0,
        "master": "127.0.0.1:9",
    }
    assert set(given) == set(inspect.signature(TitanDagTrigger).parameters)
    path, arguments = TitanDagTrigger(**given).serialize()  # type: ignore[arg-type]
    assert path == "titan_provider.triggers.dag.TitanDagTrigger"
    assert arguments == given
    again = TitanDagTrigger(**arguments)
    assert again.serialize() == (path, arguments)


async def test_it_tells_every_jobs_end(submit_dag: SubmitDag) -> None:
    jobs = submit_dag("print(1)", "raise SystemExit(1)", "print(3)")
    event = await fire(make(jobs)[0])
    assert event.outcome is Outcome.ENDED
    assert [event.statuses[job.job_id] for job in jobs.values()][:2] == [JobStatus.COMPLETED, JobStatus.DEAD]


async def test_a_triggerer_that_stops_leaves_no_gap_and_no_repeat(
    submit_dag: SubmitDag, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    wait = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n"
    jobs = submit_dag("for n in range(50): print(n)", f"print(50, flush=True)\n{wait}print(51)")
    first, seen = make(jobs)
    seen.wanted_text = "50"
    running = asyncio.create_task(fire(first))
    await seen.enough.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    second = TitanDagTrigger(**first.serialize()[1])
    more = attach(second)
    gate.touch()
    assert (await fire(second)).outcome is Outcome.ENDED
    assert [text for text, _ in numbers(seen) + numbers(more)] == [str(n) for n in range(52)]


@needs_airflow_3(
    "its loggers give lines the time of writing, so a killed triggerer's last page may show twice"
)
async def test_lines_of_a_killed_triggerer_are_written_again_as_the_same_records(
    submit_dag: SubmitDag, client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = submit_dag("for n in range(300): print(n)")
    client.wait_for_job(jobs["0"].job_id, timeout=120)
    first, seen = make(jobs)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(watch.JobLog, "finish", die)
        with pytest.raises(Killed):
            await fire(first)
    again = TitanDagTrigger(**first.serialize()[1])
    more = attach(again)
    assert (await fire(again)).outcome is Outcome.ENDED
    assert [text for text, _ in numbers(seen)] == [str(n) for n in range(300)]
    assert numbers(more) == numbers(seen)
    assert len({at for _, at in numbers(seen)}) == 300


async def test_the_deadline_cancels_them(submit_dag: SubmitDag, client: TitanClient) -> None:
    jobs = submit_dag("import time; time.sleep(600)", "print(1)")
    event = await fire(make(jobs, deadline=1.0)[0])
    assert event.outcome is Outcome.TIMED_OUT
    assert "execution_timeout was over" in event.message
    assert set(client.get_job_statuses([j.job_id for j in jobs.values()]).values()) == {JobStatus.CANCELLED}


async def test_jobs_that_nobody_knows_are_an_event_after_a_while() -> None:
    event = await fire(make({"a": KnownJob("never-submitted", "", "", ())}, unreachable_timeout=0.3)[0])
    assert event.outcome is Outcome.UNREACHABLE
    assert "does not know 'never-submitted'" in event.message


@pytest.mark.parametrize(("state", "lives"), [("deferred", True), ("failed", False), (None, False)])
async def test_a_kill_cancels_them_and_a_move_does_not(
    submit_dag: SubmitDag,
    client: TitanClient,
    monkeypatch: pytest.MonkeyPatch,
    state: str | None,
    lives: bool,
) -> None:
    async def answer(_: object) -> object:
        return state

    monkeypatch.setattr(cancellation, "current_task_state", answer)
    jobs = submit_dag("print(1)", "print(2)", requirement="QUANTUM")
    trigger, _ = make(jobs)
    await trigger.on_kill()
    found = client.get_job_statuses([job.job_id for job in jobs.values()])
    assert set(found.values()) == {JobStatus.PENDING if lives else JobStatus.CANCELLED}
    for job_id in reversed(list(found)):
        client.cancel_job(job_id)


async def test_a_last_line_without_an_end_is_copied_once_in_a_group(
    submit_dag: SubmitDag, tmp_path: Path
) -> None:
    """Read while the job still runs, when its end may come yet."""
    gate = tmp_path / "gate"
    script = "import os, time\nprint('1\\n2', end='', flush=True)\n"
    jobs = submit_dag(script + f"while not os.path.exists({str(gate)!r}): time.sleep(0.02)")
    trigger, seen = make(jobs)
    seen.wanted_text = "1"
    running = asyncio.create_task(fire(trigger))
    await seen.enough.wait()
    gate.touch()
    await running
    group, end = "::group::Log of job 0", "::endgroup::"
    texts = [text for text, _ in seen.records if text in ("1", "2", group, end)]
    assert texts == [group, "1", end, group, "2", end]
