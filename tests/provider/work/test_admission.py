"""The admission window: never more than its limit inside, and room as soon as a job has ended."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_run import Outcome, unique
from titan_provider.operators.titan import TitanJobOperator
from titan_provider.triggers.admission import TitanAdmissionTrigger
from titan_provider.work import admission
from titan_provider.work.admission import AdmissionQueue, Sightings, Turn, Window, wait_for_room
from titan_provider.work.waiting import OwnClient, run_blocking
from titan_sdk import JobStatus, ServerInfo, TitanClient

# Slow: Tasks wait for each other's jobs.
pytestmark = [pytest.mark.airflow, pytest.mark.slow]


@pytest.fixture(params=["swap", "read back"])
def window(request: pytest.FixtureRequest, client: TitanClient, monkeypatch: pytest.MonkeyPatch) -> Window:
    """Two places; once by compare-and-set, once as on a real master."""
    if request.param == "read back":
        monkeypatch.setattr(TitanClient, "server_info", lambda _: ServerInfo("titan"))
        monkeypatch.setattr(admission, "SETTLE", 0.05)
    return Window(unique("TAG"), 2)


PATIENCE = 60.0


def try_to_enter(
    client: TitanClient, window: Window, job_id: str, sightings: Sightings | None = None
) -> Turn:
    """One look, for one job."""
    own = OwnClient(client, logging.getLogger("test"))
    return run_blocking(admission.enter(own, window, [job_id], sightings or Sightings(), PATIENCE))


def inside(client: TitanClient, window: Window) -> list[str]:
    return list(json.loads(client.store_get(window.key) or '{"jobs": {}}')["jobs"])


def test_it_lets_in_as_many_as_it_holds(client: TitanClient, window: Window) -> None:
    assert [bool(try_to_enter(client, window, f"j{n}").admitted) for n in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    assert try_to_enter(client, window, "j1").admitted == ("j1",), "who is inside stays inside"
    assert set(try_to_enter(client, window, "j9").inside) == {"j0", "j1"}


def test_an_end_makes_room_and_nobody_has_to_report_it(
    client: TitanClient, window: Window, submit: Callable[..., str]
) -> None:
    done, waits = submit("print(1)"), submit("print(1)", requirement="QUANTUM")
    client.store_put(window.key, json.dumps({"v": 1, "jobs": {done: 0.0, waits: 0.0}}))
    client.wait_for_job(done, timeout=120)
    assert try_to_enter(client, window, "next").admitted
    assert not try_to_enter(client, window, "over-next").admitted
    client.cancel_job(waits)
    assert try_to_enter(client, window, "over-next").admitted


@pytest.mark.parametrize("skew", [0.0, -7 * 3600.0, 7 * 3600.0])
def test_a_place_that_was_never_used_is_free_again_after_a_while(
    client: TitanClient, window: Window, skew: float
) -> None:
    """By the clock of whoever waits; the host that let the job in may have any other."""
    wrote = time.time() + skew
    client.store_put(window.key, json.dumps({"v": 1, "jobs": {"a": wrote, "b": wrote}}))
    now = 0.0
    sightings = Sightings(lambda: now)
    assert not try_to_enter(client, window, "c", sightings).admitted
    now = admission.RESERVED - 1
    assert not try_to_enter(client, window, "c", sightings).admitted
    assert not try_to_enter(client, window, "c", Sightings(lambda: now)).admitted, "this one has just come"
    now = admission.RESERVED
    assert try_to_enter(client, window, "c", sightings).admitted
    assert inside(client, window) == ["c"]


def test_a_place_is_kept_for_a_job_that_was_submitted_meanwhile(
    client: TitanClient, window: Window, submit: Callable[..., str]
) -> None:
    now = 0.0
    sightings = Sightings(lambda: now)
    late = submit("print(1)", requirement="QUANTUM")
    assert sightings.look({late: JobStatus.UNKNOWN}) == {late}
    now = admission.RESERVED - 1
    assert sightings.look({late: client.get_job_status(late)}) == {late}
    now = admission.RESERVED + 1
    assert sightings.look({late: JobStatus.UNKNOWN}) == {late}, (
        "the master may answer so while its store is down"
    )
    client.cancel_job(late)
    assert sightings.look({late: client.get_job_status(late)}) == set()


def test_many_at_once_never_are_too_many(client: TitanClient, window: Window) -> None:
    admitted: list[str] = []

    def enter(job_id: str) -> None:
        admitted.extend(try_to_enter(client, window, job_id).admitted)

    threads = [threading.Thread(target=enter, args=(f"j{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 2
    assert sorted(inside(client, window)) == sorted(admitted)


def test_waiting_ends_with_the_task(client: TitanClient, window: Window) -> None:
    for n in range(2):
        try_to_enter(client, window, f"j{n}")
    killed = iter([False, False, True]).__next__
    own = OwnClient(client, logging.getLogger("test"))
    assert not run_blocking(wait_for_room(own, window, "late", AdmissionQueue(), PATIENCE, killed))
    assert sorted(inside(client, window)) == ["j0", "j1"]


async def test_the_triggers_of_a_process_are_let_in_together(
    airflow_connection: str, client: TitanClient, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    real = admission.enter

    async def counted(master: Any, window: Window, wanted: Sequence[str], *more: Any) -> Turn:
        looks.append(len(wanted))
        return await real(master, window, wanted, *more)

    async def fire(job_id: str) -> str:
        trigger = TitanAdmissionTrigger(airflow_connection, job_id, window.tag, 30, time.time())
        (event,) = [event async for event in trigger.run()]
        return str(event.payload["outcome"])

    monkeypatch.setattr(admission, "enter", counted)
    outcomes = await asyncio.gather(*(fire(f"j{n}") for n in range(30)))
    assert set(outcomes) == {"admitted"}
    assert len(inside(client, window)) == 30
    assert len(looks) < 15, "the first asks for those that came meanwhile"


async def test_a_full_window_lets_the_triggers_in_as_jobs_end(
    airflow_connection: str, client: TitanClient, window: Window, submit: Callable[..., str]
) -> None:
    """And one that was let in by another's look, and is killed before it took notice, keeps nobody waiting."""
    blockers = [submit("print(1)", requirement="QUANTUM") for _ in range(2)]
    client.store_put(window.key, json.dumps({"v": 1, "jobs": dict.fromkeys(blockers, time.time())}))

    async def fire(job_id: str) -> None:
        trigger = TitanAdmissionTrigger(airflow_connection, job_id, window.tag, window.limit, time.time())
        async for event in trigger.run():
            assert event.payload["outcome"] == "admitted"

    waiting = [asyncio.create_task(fire(f"j{n}")) for n in range(3)]
    await asyncio.sleep(0)
    client.cancel_job(blockers[0])
    done, rest = await asyncio.wait(waiting, timeout=120, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    client.cancel_job(blockers[1])
    more, left = await asyncio.wait(rest, timeout=120, return_when=asyncio.FIRST_COMPLETED)
    assert (len(more), len(left)) == (1, 1)
    for task in left:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(inside(client, window)) == 2


def test_the_trigger_is_rebuilt_exactly() -> None:
    given = {
        "titan_conn_id": "c",
        "job_id": "j",
        "tag": "GPU",
        "limit": 3,
        "since": 1.5,
        "deadline": 2.5,
        "unreachable_timeout": 7.0,
    }
    path, arguments = TitanAdmissionTrigger(**given).serialize()  # type: ignore[arg-type]
    assert path == "titan_provider.triggers.admission.TitanAdmissionTrigger"
    assert arguments == given


OVERLAP = r"""
import fcntl, os, time, titan_job
with open(titan_job.params, "a+") as f:
    fcntl.flock(f, fcntl.LOCK_EX); f.write("+"); f.flush(); fcntl.flock(f, fcntl.LOCK_UN)
    time.sleep(0.2)
    fcntl.flock(f, fcntl.LOCK_EX); f.write("-"); f.flush()
"""


@pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferrable"])
def test_mapped_tasks_wait_their_turn_unsubmitted(
    run_dag: Callable[..., Outcome],
    client: TitanClient,
    submit: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deferrable: bool,
) -> None:
    """A job of somebody else fills the window of one; the tasks go through when it is gone."""
    marks = tmp_path / "marks"
    blocker = submit("print(1)", requirement="QUANTUM")
    client.store_put(Window("GPU", 1).key, json.dumps({"v": 1, "jobs": {blocker: time.time()}}))
    submitted: list[bool] = []
    sent = TitanClient.submit_dag

    def watch(*given: Any, **fields: Any) -> Any:
        submitted.append(client.get_job_status(blocker).is_terminal)
        return sent(*given, **fields)

    monkeypatch.setattr(TitanClient, "submit_dag", watch)
    canceller = threading.Timer(2.0, client.cancel_job, [blocker])
    canceller.start()
    done = run_dag(f"""
        TitanJobOperator.partial(task_id="m", script={OVERLAP!r}, requirement="GPU", deferrable={deferrable},
            max_unfinished=1).expand(job_params=[{str(marks)!r}] * 3)
    """)
    canceller.join()
    assert done.state == "success"
    assert submitted == [True] * 3
    assert marks.read_text() == "+-" * 3


def test_the_limit_may_come_from_the_connection(
    monkeypatch: pytest.MonkeyPatch, client: TitanClient, cluster: Any
) -> None:
    from titan_provider.hooks.titan import TitanHook

    uri = f"titan://{cluster.host}:{cluster.port}/?max_unfinished=7"
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", uri)
    assert TitanHook().get_max_unfinished() == 7
    assert TitanJobOperator(task_id="t", script="print()", max_unfinished=3).max_unfinished == 3


@pytest.fixture(autouse=True)
def _empty_window(client: TitanClient) -> Iterator[None]:
    yield
    client.store_put(Window("GPU", 1).key, json.dumps({"v": 1, "jobs": {}}))
