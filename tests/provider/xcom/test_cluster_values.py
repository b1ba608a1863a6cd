"""XComs between Airflow and jobs: slices, mapped tasks, and jobs that read and write the values themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.airflow_run import unique, write_dag
from tests.support.airflow_version import dag_file_option, needs_airflow_3
from titan_provider.exceptions import TitanXComError
from titan_provider.operators.dag import TitanDagOperator
from titan_provider.xcom import titan_store
from titan_provider.xcom.base import database_to_plain
from titan_provider.xcom.titan_store import TitanStoreXComBackend as Backend
from titan_sdk import CorruptData, InvalidArgument, NotFound, TitanClient, values
from titan_sdk.xcom import Reference, place_key, read_xcom, remove, value_of, write_xcom

# Slow: Whole DAGs run in a real Airflow with the backend.
pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_connection"), pytest.mark.slow]

Run = Callable[[str], tuple[str, str]]


@pytest.fixture(autouse=True)
def _fresh_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small values in the store, so that tests need no large ones."""
    monkeypatch.setenv("AIRFLOW__TITAN_PROVIDER__XCOM_THRESHOLD", "0")
    titan_store._client.cache_clear()
    titan_store._placed.clear()


@pytest.fixture
def run(airflow_home: Path) -> Run:
    """Run a DAG with the backend on, in a process of its own; returns its id and what it printed."""

    def run(body: str) -> tuple[str, str]:
        dag_id = unique("xcom")
        path = write_dag(airflow_home, dag_id, body)
        env = os.environ | {
            "AIRFLOW__CORE__XCOM_BACKEND": f"{Backend.__module__}.{Backend.__name__}",
            "PYTHONPATH": os.getcwd(),
        }
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "dags", "test", dag_id, dag_file_option(), str(path)],
            env=env,
            capture_output=True,
            text=True,
            timeout=400,
        )
        out = done.stdout + done.stderr
        assert done.returncode == 0, out
        return dag_id, out

    return run


def test_mapped_values_come_back_whole_by_index_and_by_slice(run: Run) -> None:
    _, out = run("""
        @task
        def numbers(): return [1, 2, 3, 4]
        @task.titan
        def square(n): return {"square": n * n}
        @task
        def look(values):
            assert [v["square"] for v in values] == [1, 4, 9, 16]
            assert values[2] == {"square": 9} and values[-1] == {"square": 16}
            assert [v["square"] for v in values[1:3]] == [4, 9]
            assert len(values) == 4
        @task.titan
        def total(values): return sum(v["square"] for v in values)
        @task
        def pulled(total, ti=None):
            some = ti.xcom_pull(task_ids="square", map_indexes=[1, 3])
            assert [v["square"] for v in some] == [4, 16], list(some)
            print("<all is well", total, ">")
        squares = square.expand(n=numbers())
        look(squares)
        job = TitanJobOperator(task_id="job", script="import titan_job; titan_job.result(len(titan_job.params))",
                               job_params=squares)
        pulled(total(squares))
        @task
        def count(n): assert n == 4
        count(job.output)
    """)
    assert "<all is well 30 >" in out


READER = """
import titan_job
from titan_sdk import TitanClient
from titan_sdk.xcom import read_xcom, write_xcom

where = titan_job.params
with TitanClient() as client:
    value = read_xcom(client, where["dag"], where["run"], "make", map_index=where.get("index", -1))
    titan_job.result(write_xcom(client, {"doubled": [n * 2 for n in value["n"]]}))
"""


def test_a_job_reads_what_a_task_pushed_and_writes_what_a_task_pulls(run: Run, client: TitanClient) -> None:
    dag_id, out = run(f"""
        @task
        def make(): return {{"n": [1, 2, 3]}}
        job = TitanJobOperator(task_id="job", script={READER!r},
                               job_params={{"dag": "{{{{ dag.dag_id }}}}", "run": "{{{{ run_id }}}}"}})
        @task
        def use(value, run_id=None): print("<got", value, run_id, ">")
        make() >> job
        use(job.output)
    """)
    assert "<got {'doubled': [2, 4, 6]}" in out
    run_id = out.partition("<got {'doubled': [2, 4, 6]} ")[2].partition(" >")[0]
    assert read_xcom(client, dag_id, run_id, "make") == {"n": [1, 2, 3]}
    assert read_xcom(client, dag_id, run_id, "job") == {"doubled": [2, 4, 6]}
    with pytest.raises(NotFound, match="has no XCom 'return_value' of task 'nobody'"):
        read_xcom(client, dag_id, run_id, "nobody")


WRITER = """
import titan_job
from titan_sdk import TitanClient
from titan_sdk.xcom import write_xcom

with TitanClient() as client:
    titan_job.result(write_xcom(client, [2, 4, 6]))
"""


@needs_airflow_3("of which the process is lost in the middle of what its task runner does")
def test_a_retry_after_the_push_hands_on_what_the_job_wrote(run: Run) -> None:
    _, out = run(f"""
        import airflow.sdk.execution_time.task_runner as runner
        succeed = runner._handle_current_task_success
        def crash_once(context, ti):
            if ti.task_id.startswith("job") and ti.try_number == 1:
                raise RuntimeError("<lost", ti.task_id, ">")
            return succeed(context, ti)
        runner._handle_current_task_success = crash_once
        @task
        def use(one, two): print("<got", one, two, ">")
        jobs = [TitanJobOperator(task_id=f"job{{n}}", script={WRITER!r}, retries=1, deferrable=bool(n),
                                 retry_delay=timedelta(seconds=0)) for n in (0, 1)]
        use(*(job.output for job in jobs))
    """)
    assert "'job0'" in out
    assert "'job1'" in out
    assert "<got [2, 4, 6] [2, 4, 6] >" in out


def test_several_jobs_in_one_task_give_what_they_wrote_not_references() -> None:
    """Inside the task's dict no backend would look for one."""
    titan_store._client.cache_clear()
    ti = SimpleNamespace(dag_id=unique("d"), task_id="t", run_id="r", map_index=-1, try_number=1, max_tries=0)
    context: Any = {"ti": ti, "dag_run": SimpleNamespace(clear_number=0, start_date=None)}
    fake = {"titan_xcom": 1, "key": "a user's own"}
    jobs = [
        {"job_id": "a", "script": WRITER},
        {"job_id": "b", "script": f"import titan_job; titan_job.result({fake!r})"},
    ]
    operator = TitanDagOperator(task_id="t", jobs=jobs, do_xcom_push=False, poll_interval=0.1, durable=False)
    assert operator.execute(context) == {"a": [2, 4, 6], "b": fake}


def test_the_format_is_plain_enough_to_read_without_this_sdk(client: TitanClient) -> None:
    """As documented: place -> reference -> JSON text."""
    import json

    Backend.serialize_value([1, "ü"], key="k", dag_id="d 1", run_id="r", task_id="t", map_index=2)
    reference = json.loads(client.store_get("titan:xcom-at:d%201/r/t/2/k") or "")
    assert json.loads(client.store_get(reference["key"]) or "") == [1, "ü"]
    assert place_key("d 1", "r", "t", 2, "k") == "titan:xcom-at:d%201/r/t/2/k"


class Row:
    def __init__(self, value: Any) -> None:
        self.value = value


PLACE = {"key": "return_value", "task_id": "t", "dag_id": "d", "run_id": "r", "map_index": -1}


@pytest.mark.parametrize("compress", [False, True])
def test_a_jobs_value_is_passed_on_by_reference(client: TitanClient, compress: bool) -> None:
    written = write_xcom(client, {"a": [1]}, compress=compress)
    for _ in range(
        2
    ):  # the second time after a crash: Airflow deletes the XCom, and the job's result comes again
        stored = Backend.serialize_value(written, **PLACE)
        assert database_to_plain(stored) == written
        assert Backend.deserialize_value(Row(stored)) == {"a": [1]}
        Backend.purge(SimpleNamespace(value=stored, **PLACE))


def test_a_jobs_value_that_is_gone_is_an_error_not_a_dict(client: TitanClient) -> None:
    written = write_xcom(client, {"a": [1]})
    reference = Reference.from_json(written)
    assert reference is not None
    remove(client, reference)
    with pytest.raises(TitanXComError, match="that a job wrote is not in TitanStore any more"):
        Backend.serialize_value(written, **PLACE)


def test_what_only_looks_like_a_jobs_value_stays_a_users_dict(client: TitanClient) -> None:
    """A copy of a reference to somebody else's XCom, or a made-up one, must not get power over it."""
    pushed = Backend.serialize_value("precious", **PLACE)
    own = database_to_plain(pushed)
    fake = write_xcom(client, 1) | {"sha256": "0" * 64}
    for dict_of_a_user in (own, fake, {"titan_xcom": 1}, write_xcom(client, 1) | {"key": "titan:xcom-job:x"}):
        stored = Backend.serialize_value(dict_of_a_user, **PLACE)
        assert database_to_plain(stored) != dict_of_a_user
        assert Backend.deserialize_value(Row(stored)) == dict_of_a_user
        Backend.purge(SimpleNamespace(value=stored, **PLACE))
    assert Backend.deserialize_value(Row(pushed)) == "precious"


def test_a_job_writes_values_with_their_types(client: TitanClient) -> None:
    value = ({1, 2}, b"x", 10**30)
    reference = Reference.from_json(write_xcom(client, value))
    assert reference is not None
    assert values.load(value_of(client, reference)) == value
    with pytest.raises(InvalidArgument, match="write_xcom: the value is of type"):
        write_xcom(client, range(3))


def test_damage_is_told_to_a_job_too(client: TitanClient) -> None:
    reference = Reference.from_json(write_xcom(client, [1, 2]))
    assert reference is not None
    client.store_put(reference.key, "[1, 3]")
    with pytest.raises(CorruptData, match="is not the value that was stored there"):
        value_of(client, reference)
    for damage in ("[]", "{", "[" * 100_000):
        client.store_put(place_key("d", "r", "damaged", -1, "return_value"), damage)
        with pytest.raises(CorruptData, match="which is no reference to an XCom"):
            read_xcom(client, "d", "r", "damaged")
