"""The connection is edited between two tries: the job of the first is found where it is, or a person decides."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from tests.support.airflow_run import unique
from tests.support.airflow_version import needs_airflow_3
from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.operators.dag import TitanDagOperator
from titan_provider.operators.service import TitanServiceOperator, TitanServiceStopOperator
from titan_provider.operators.titan import TitanJobOperator
from titan_provider.triggers.job import TitanJobTrigger
from titan_provider.work.service import is_alive
from titan_sdk import JobStatus, TitanClient
from titan_sdk.cluster import LocalCluster

# Slow: Tasks of a real Airflow meet several masters.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.airflow,
    pytest.mark.usefixtures("airflow_connection"),
    needs_airflow_3("the record is in TitanStore of the master that the connection names"),
]

Point = Callable[[TitanClient | LocalCluster | str], None]
SLOW = "import time; time.sleep(600)"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class State(dict[str, Any]):
    """Airflow's task state store."""

    set = dict.__setitem__


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> Point:
    """Edit the connection."""

    def edit(to: TitanClient | LocalCluster | str) -> None:
        address = (
            to if isinstance(to, str) else to.config.address if isinstance(to, TitanClient) else to.address
        )
        monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", f"titan://{address}")

    return edit


@pytest.fixture
def context() -> Any:
    names = {"dag_id": unique("d"), "task_id": "t", "run_id": "r", "map_index": -1}
    ti = SimpleNamespace(**names, try_number=1, max_tries=2, xcom_push=lambda **_: None)
    run = SimpleNamespace(clear_number=0, start_date=None)
    return {"ti": ti, "dag_run": run, "task_state_store": State()}


@pytest.fixture
def old(point: Point) -> Iterator[LocalCluster]:
    """The master that the connection names first."""
    with LocalCluster({"GENERAL": 2}) as cluster:
        point(cluster)
        yield cluster


@pytest.fixture
def old_client(old: LocalCluster) -> Iterator[TitanClient]:
    with TitanClient(old.host, old.port) as made:
        yield made


def make(kind: str, script: str = SLOW, **arguments: Any) -> Any:
    if kind == "job":
        return TitanJobOperator(task_id="t", script=script, deferrable=True, **arguments)
    return TitanDagOperator(
        task_id="t", jobs=[{"job_id": "a", "script": script}], deferrable=True, **arguments
    )


def deferred(operator: Any, context: Any) -> tuple[str, str]:
    """The job that its trigger waits for, and the address of the master that it asks."""
    with pytest.raises(TaskDeferred) as raised:
        operator.execute(context)
    trigger: Any = raised.value.trigger
    jobs = getattr(trigger, "jobs", None)
    return (jobs["a"]["job_id"] if jobs else trigger.job_id), trigger.master


@pytest.mark.parametrize("kind", ["job", "dag"])
def test_a_retry_waits_where_the_job_is_and_a_clear_runs_it_where_the_connection_points(
    kind: str, context: Any, old: LocalCluster, old_client: TitanClient, client: TitanClient, point: Point
) -> None:
    job_id, master = deferred(make(kind), context)
    assert master == old.address
    point(client)
    assert deferred(make(kind), context) == (job_id, old.address)
    assert client.get_job_status(job_id) is JobStatus.UNKNOWN
    context["dag_run"].clear_number = 1
    anew, master = deferred(make(kind), context)
    assert (anew != job_id, master) == (True, client.config.address)
    assert old_client.get_job_status(job_id) is JobStatus.CANCELLED
    client.cancel_job(anew)


@pytest.mark.parametrize("kind", ["job", "dag"])
def test_a_result_is_taken_from_the_master_that_has_it(
    kind: str, context: Any, old: LocalCluster, old_client: TitanClient, client: TitanClient, point: Point
) -> None:
    job_id, _ = deferred(make(kind, "import titan_job; titan_job.result(5)"), context)
    old_client.wait_for_job(job_id, timeout=300)
    point(client)
    blocking = make(kind, "import titan_job; titan_job.result(5)")
    blocking.deferrable = False
    assert blocking.execute(context) == (5 if kind == "job" else {"a": 5})
    ended = JobEvent(Outcome.ENDED, {job_id: JobStatus.COMPLETED}, master=old.address).to_dict()
    assert make(kind).execute_complete(context, ended) == (5 if kind == "job" else {"a": 5})
    assert client.get_job_status(job_id) is JobStatus.UNKNOWN


@pytest.mark.parametrize("kind", ["job", "dag"])
def test_while_that_master_is_silent_nothing_is_submitted_until_a_person_clears_the_task(
    kind: str, context: Any, client: TitanClient, point: Point, capfd: pytest.CaptureFixture[str]
) -> None:
    with LocalCluster({"GENERAL": 1}) as gone:
        point(gone)
        job_id, _ = deferred(make(kind), context)
    point(client)
    with pytest.raises(TitanMasterUnreachable, match=r"Nothing was submitted again: .* or clear the task"):
        make(kind).execute(context)
    context["dag_run"].clear_number = 1
    anew, master = deferred(make(kind), context)
    assert (anew != job_id, master) == (True, client.config.address)
    assert "it may still be running there" in "".join(capfd.readouterr())
    client.cancel_job(anew)


@pytest.mark.parametrize("kind", ["job", "dag"])
def test_another_name_of_the_same_master_is_no_other_master(
    kind: str, context: Any, old: LocalCluster, old_client: TitanClient, point: Point
) -> None:
    job_id, _ = deferred(make(kind), context)
    point(f"localhost:{old.port}")
    assert deferred(make(kind), context) == (job_id, f"localhost:{old.port}")
    old_client.cancel_job(job_id)


async def test_a_trigger_goes_on_asking_that_master(
    old: LocalCluster, old_client: TitanClient, client: TitanClient, context: Any, point: Point
) -> None:
    job_id, _ = deferred(make("job", "print(1)"), context)
    point(client)
    trigger = TitanJobTrigger("titan_default", job_id, poll_interval=0.05, master=old.address)
    (event,) = [event async for event in trigger.run()]
    fired = JobEvent.from_dict(event.payload)
    assert (fired.outcome, fired.master) == (Outcome.ENDED, old.address)
    assert fired.statuses == {job_id: JobStatus.COMPLETED}


SERVER = """
from http.server import HTTPServer, SimpleHTTPRequestHandler
HTTPServer(("127.0.0.1", {port}), SimpleHTTPRequestHandler).serve_forever()
"""


def test_a_service_is_taken_up_and_stopped_where_it_runs(
    context: Any,
    old: LocalCluster,
    old_client: TitanClient,
    client: TitanClient,
    point: Point,
    free_port: int,
) -> None:
    def start() -> dict[str, Any]:
        return TitanServiceOperator(
            task_id="t", script=SERVER.format(port=free_port), port=free_port, poll_interval=0.1
        ).execute(context)

    first = start()
    assert first["master"] == old.address
    point(client)
    assert start() == first
    TitanServiceStopOperator(task_id="stop", service=first).execute(context)
    assert not is_alive(old_client, first["service_id"])
    assert client.get_job_status(first["service_id"]) is JobStatus.UNKNOWN
