from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

from tests.support.airflow_run import Outcome, unique
from tests.support.airflow_version import AIRFLOW_2
from titan_provider.compat import TaskDeferralError
from titan_provider.exceptions import TitanMasterUnreachable, TitanWorkFailed
from titan_provider.sensors.titan import TitanDagSensor
from titan_provider.triggers.jobs import TitanJobsTrigger
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster

# Slow: Every input is tried in every mode, in a real Airflow.
pytestmark = [pytest.mark.airflow, pytest.mark.slow]

RunDag = Callable[..., Outcome]
WAYS = pytest.mark.parametrize(
    "way", ["mode='poke'", "mode='reschedule'", "deferrable=True"], ids=["poke", "reschedule", "deferrable"]
)


@pytest.fixture
def dag_of(client: TitanClient, tmp_path: Path) -> Callable[..., str]:
    """Submit a DAG of two jobs, the second a child of the first; returns its name."""

    def submit(first: str, second: str = "print(2)") -> str:
        name = unique("pipeline")
        for number, source in enumerate((first, second)):
            (tmp_path / f"{number}.py").write_text(source)
        one = TitanJob(f"{name}-one", str(tmp_path / "0.py"))
        two = TitanJob(f"{name}-two", str(tmp_path / "1.py"), parents=[one.job_id])
        client.submit_dag(name, [one, two])
        return name

    return submit


SLOW = "import time; time.sleep(0.5)"


@WAYS
def test_it_waits_for_a_dag_by_name(run_dag: RunDag, dag_of: Callable[..., str], way: str) -> None:
    name = dag_of(SLOW)
    done = run_dag(f'TitanDagSensor(task_id="wait", dag_name="{name}", poke_interval=0.2, {way})')
    assert done.state == "success", done.errors
    assert done.xcom("wait") == {f"{name}-one": "COMPLETED", f"{name}-two": "COMPLETED"}


@WAYS
def test_it_waits_for_jobs_by_id(run_dag: RunDag, dag_of: Callable[..., str], way: str) -> None:
    name = dag_of(SLOW)
    done = run_dag(f"""
        TitanDagSensor(task_id="wait", job_ids=["{name}-one", "DAG-{name}-two"], poke_interval=0.2, {way})
    """)
    assert done.xcom("wait") == {f"{name}-one": "COMPLETED", f"DAG-{name}-two": "COMPLETED"}


@WAYS
def test_a_failed_job_fails_it_with_the_reason(run_dag: RunDag, dag_of: Callable[..., str], way: str) -> None:
    name = dag_of(SLOW + "\nraise ValueError('no rows')")
    done = run_dag(f'TitanDagSensor(task_id="wait", dag_name="{name}", poke_interval=0.2, {way})')
    assert done.tasks == {"wait": "failed"}
    (error,) = done.errors
    assert isinstance(error, TitanWorkFailed)
    assert "2 of 2 jobs did not succeed" in str(error)
    assert "ValueError: no rows" in str(error)


@WAYS
@pytest.mark.parametrize("softly", ["soft_fail=True", "never_fail=True"])
def test_it_may_skip_instead_of_failing(
    run_dag: RunDag, dag_of: Callable[..., str], way: str, softly: str
) -> None:
    name = dag_of(SLOW + "\nraise ValueError('no rows')")
    done = run_dag(f'TitanDagSensor(task_id="wait", dag_name="{name}", poke_interval=0.2, {way}, {softly})')
    assert done.tasks == {"wait": "skipped"}


@WAYS
@pytest.mark.parametrize("softly", ["soft_fail=True", "never_fail=True"])
def test_it_may_skip_for_what_had_failed_before_it_looked(
    run_dag: RunDag, dag_of: Callable[..., str], client: TitanClient, way: str, softly: str
) -> None:
    name = dag_of("raise ValueError('no rows')")
    client.find_dag(name).wait(raise_on_failure=False)
    done = run_dag(f'TitanDagSensor(task_id="wait", dag_name="{name}", poke_interval=0.2, {way}, {softly})')
    assert done.tasks == {"wait": "skipped"}


def test_a_cancelled_job_fails_it(run_dag: RunDag, submit: Callable[..., str], client: TitanClient) -> None:
    job_id = submit("print(1)", requirement="QUANTUM")
    client.cancel_job(job_id)
    done = run_dag(f'TitanDagSensor(task_id="wait", job_ids="{job_id}", poke_interval=0.2)')
    assert str(done.errors[0]) == f"1 of 1 jobs did not succeed: cancelled: job '{job_id}'"


def test_what_nobody_has_submitted_is_waited_for_until_the_timeout(run_dag: RunDag) -> None:
    done = run_dag("""
        TitanDagSensor(task_id="by_name", dag_name="no-such-dag", poke_interval=0.1, timeout=0.3)
        TitanDagSensor(task_id="by_id", job_ids=["no-such-job"], poke_interval=0.1, timeout=0.3)
    """)
    assert [type(error) for error in done.errors] == [AirflowSensorTimeout] * 2


ENDS: dict[str, tuple[str, str]] = {
    # what is wrong: the sensor's arguments, and the error that ends it without soft_fail and never_fail
    "another type": ("titan_conn_id='titan_http', job_ids=['x']", "TitanConnectionError"),
    "wrong extras": ("titan_conn_id='titan_typo', job_ids=['x']", "TitanConnectionError"),
    "no connection": ("titan_conn_id='titan_none', job_ids=['x']", "AirflowNotFoundException"),
    "refused token": ("titan_conn_id='titan_locked', job_ids=['x']", "AuthenticationFailed"),
    "silent master": ("titan_conn_id='titan_silent', job_ids=['x'], unreachable_timeout=0.3", "TitanMasterUnreachable"),
    "silent until the timeout": ("titan_conn_id='titan_silent', job_ids=['x'], timeout=0.5", "AirflowSensorTimeout"),
    "unknown dag": ("dag_name='no-such-dag', timeout=0.5", "AirflowSensorTimeout"),
    "unknown job": ("job_ids=['no-such-job'], timeout=0.5", "AirflowSensorTimeout"),
    "failed dag": ("dag_name={failed!r}", "TitanWorkFailed"),
}  # fmt: skip
SOFT = {"AirflowSensorTimeout", "TitanWorkFailed"}
"""What soft_fail is about in Airflow: errors of the work that is waited for, none of the way to it."""


@WAYS
def test_the_same_input_has_the_same_end_in_every_mode(
    run_dag: RunDag,
    dag_of: Callable[..., str],
    client: TitanClient,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    failed = dag_of("raise ValueError('no rows')")
    client.find_dag(failed).wait(raise_on_failure=False)
    with LocalCluster(workers={"GENERAL": 1}, token="a-token-of-its-own") as locked:
        uris = {
            "HTTP": f"http://{locked.address}",
            "TYPO": f"titan://{locked.address}/?timeot=5",
            "LOCKED": f"titan://{locked.address}",
            "SILENT": "titan://127.0.0.1:9",
        }
        for name, uri in uris.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_TITAN_{name}", uri)
        lines, expected, errors = [], {}, []
        for number, (arguments, error) in enumerate(ENDS.values()):
            given = f"{arguments.format(failed=failed)}, poke_interval=0.1, {way}"
            for manner, flag in {
                "plain": "",
                "soft": ", soft_fail=True",
                "never": ", never_fail=True",
            }.items():
                task = f"{manner}_{number}"
                lines.append(f'TitanDagSensor(task_id="{task}", {given}{flag})')
                fails = manner == "plain" or (manner == "soft" and error not in SOFT)
                expected[task] = "failed" if fails else "skipped"
                errors += [error] if fails else []
        done = run_dag("\n".join(lines))
    assert done.tasks == expected
    assert sorted(type(error).__name__ for error in done.errors) == sorted(errors)


def test_silent_fail_goes_on_in_every_mode(run_dag: RunDag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_HTTP", "http://127.0.0.1:9")
    given = "titan_conn_id='titan_http', job_ids=['x'], poke_interval=0.1, timeout=0.5, silent_fail=True"
    done = run_dag(f"""
        TitanDagSensor(task_id="poke", {given})
        TitanDagSensor(task_id="reschedule", {given}, mode="reschedule")
        TitanDagSensor(task_id="deferrable", {given}, deferrable=True)
    """)
    assert [type(error) for error in done.errors] == [AirflowSensorTimeout] * 3


def test_a_silent_master_ends_the_deferred_wait_with_its_name(
    run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", "titan://127.0.0.1:9")
    done = run_dag("""
        TitanDagSensor(task_id="wait", job_ids=["x"], poke_interval=0.1, deferrable=True, unreachable_timeout=0.2)
    """)
    (error,) = done.errors
    assert isinstance(error, TitanMasterUnreachable)
    assert "127.0.0.1:9" in str(error)


@pytest.mark.parametrize(
    ("error", "plain", "softly"),
    [
        (
            "Trigger/execution timeout" if AIRFLOW_2 else "Trigger timeout",
            AirflowSensorTimeout,
            AirflowSkipException,
        ),
        ("Trigger failure", TaskDeferralError, TaskDeferralError),
    ],
)
def test_a_trigger_that_failed_is_no_timeout(
    error: str, plain: type[Exception], softly: type[Exception]
) -> None:
    """Only a timeout is final, and what soft_fail is about."""
    for soft_fail, end in {False: plain, True: softly}.items():
        sensor = TitanDagSensor(task_id="wait", job_ids=["x"], deferrable=True, soft_fail=soft_fail)
        with pytest.raises(end) as caught:
            sensor.resume_execution("__fail__", {"error": error}, {})  # type: ignore[typeddict-item]
        assert type(caught.value) is end


@pytest.mark.parametrize("arguments", [{}, {"dag_name": "d", "job_ids": ["j"]}])
def test_it_wants_exactly_one_thing_to_wait_for(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="task 'mine': give either dag_name= or job_ids="):
        TitanDagSensor(task_id="mine", **arguments)  # type: ignore[arg-type]


def test_its_trigger_is_rebuilt_exactly_from_what_it_serializes() -> None:
    given = {
        "titan_conn_id": "other",
        "dag_name": "etl",
        "run": "0123456789abcdef",
        "job_ids": ["a", "b"],
        "poll_interval": 9.5,
        "unreachable_timeout": 7.0,
        "silent_fail": True,
        "since": 1.5,
        "deadline": 9.25,
    }
    assert set(given) == set(inspect.signature(TitanJobsTrigger).parameters)
    path, arguments = TitanJobsTrigger(**given).serialize()  # type: ignore[arg-type]
    assert path == "titan_provider.triggers.jobs.TitanJobsTrigger"
    assert arguments == given
