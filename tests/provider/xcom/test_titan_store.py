from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from tests.support.airflow_run import unique, write_dag, xcom_model
from tests.support.airflow_version import dag_file_option, needs_airflow_3
from titan_provider.exceptions import TitanXComError
from titan_provider.xcom import titan_store
from titan_provider.xcom.base import database_to_plain, plain_to_database
from titan_provider.xcom.titan_store import TitanStoreXComBackend as Backend
from titan_sdk import NotFound, ServerInfo, TitanClient, xcom
from titan_sdk.xcom import read_xcom

# Slow: Whole DAGs run in a real Airflow with the backend.
pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_connection"), pytest.mark.slow]


class Row(NamedTuple):
    """What Airflow hands to a backend; sometimes it has nothing but the value."""

    value: Any


def row(plain: Any) -> Row:
    """One with that in the database's column."""
    return Row(plain_to_database(plain))


@pytest.fixture(autouse=True)
def _fresh_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small values in the store, so that tests need no large ones."""
    option(monkeypatch, "threshold", 0)
    titan_store._client.cache_clear()
    titan_store._placed.clear()
    yield
    titan_store._client.cache_clear()


def option(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setenv(f"AIRFLOW__TITAN_PROVIDER__XCOM_{name.upper()}", str(value))


def push(value: Any, **where: Any) -> Any:
    place = {"key": "return_value", "task_id": "t", "dag_id": "d", "run_id": "r", "map_index": -1} | where
    stored = Backend.serialize_value(value, **place)
    return json.loads(json.dumps(database_to_plain(stored)))  # as Airflow's database would


PLACE = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "key": "return_value"}


def purge(plain: Any, **where: Any) -> None:
    """As Airflow deletes an XCom."""
    Backend.purge(SimpleNamespace(value=plain, **PLACE | where))


VALUES = [
    "text",
    "",
    "ERROR: not one",
    "größe 模型 | ; \n",
    0,
    1.5,
    True,
    [1, [2, {"a": None}]],
    {"a": {"b": [1]}},
    (1, 2),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    {"titan_xcom": 1, "key": "a user's own"},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("compression", ["none", "zlib"])
@pytest.mark.parametrize("threshold", [0, 1000])
def test_every_value_comes_back(
    value: Any, compression: str, threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    option(monkeypatch, "compression", compression)
    option(monkeypatch, "threshold", threshold)
    assert Backend.deserialize_value(row(push(value))) == value


def test_the_database_keeps_a_readable_reference(client: TitanClient) -> None:
    stored = push({"accuracy": 0.98}, dag_id="etl", task_id="train", map_index=3)
    assert stored["titan_xcom"] == 1
    assert stored["key"].startswith("titan:xcom:etl/r/train/3/return_value/")
    assert stored["preview"] == '{"accuracy":0.98}'
    assert stored["bytes"] == len('{"accuracy":0.98}')
    assert json.loads(client.store_get(stored["key"]) or "") == {"accuracy": 0.98}, "jobs read the same value"


def test_values_below_a_kibibyte_stay_in_airflows_database_by_default(
    client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__TITAN_PROVIDER__XCOM_THRESHOLD")
    assert push({"rows": 13}) == {"rows": 13}
    assert push("x" * 1021) == "x" * 1021
    assert push("x" * 1022)["titan_xcom"] == 1


def test_the_names_that_links_and_people_read_are_never_references() -> None:
    for key in ("titan_job_id", "titan_dag_name"):
        assert push("d.t.manual__2026", key=key) == "d.t.manual__2026"
    assert push({"a": 1}, key="titan_job_id")["titan_xcom"] == 1


def test_a_job_never_reads_a_value_that_a_shorter_one_replaced(
    client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    option(monkeypatch, "threshold", 10)
    push("a longer value", task_id="twice")
    assert xcom.read_xcom(client, "d", "r", "twice") == "a longer value"
    assert push("short", task_id="twice") == "short"
    with pytest.raises(NotFound, match="stay in Airflow: give them to the job as job_params"):
        xcom.read_xcom(client, "d", "r", "twice")


def test_small_values_may_stay_in_airflows_database(monkeypatch: pytest.MonkeyPatch) -> None:
    option(monkeypatch, "threshold", 10)
    assert push("1234567") == "1234567"
    assert push("12345678")["titan_xcom"] == 1


def test_a_value_above_the_packet_limit_travels_in_parts(client: TitanClient) -> None:
    value = os.urandom(6_000_000).hex()
    stored = push(value)
    assert stored["parts"] == 3
    assert Backend.deserialize_value(row(stored)) == value
    assert client.store_get(stored["key"]) is None


def test_values_of_others_are_left_as_they_are() -> None:
    for foreign in ("http://dashboard/job/1", {"a": 1}, [1], None):
        assert Backend.deserialize_value(row(foreign)) == foreign
        purge(foreign)


def test_a_missing_value_is_an_error_never_a_value(client: TitanClient) -> None:
    stored = push("precious")
    client.store_delete(stored["key"])
    with pytest.raises(TitanXComError, match=r"is not in TitanStore any more.*clear the task that pushed it"):
        Backend.deserialize_value(row(stored))


def test_a_missing_part_is_an_error(client: TitanClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xcom, "PART_CHARS", 10)
    stored = push("x" * 50)
    client.store_put(stored["key"] + ":2", "")
    with pytest.raises(TitanXComError, match=r"1 of 6 parts missing"):
        Backend.deserialize_value(row(stored))


def test_a_changed_value_is_an_error(client: TitanClient) -> None:
    stored = push("precious")
    client.store_put(stored["key"], '"precioux"')
    with pytest.raises(TitanXComError, match="is not the value that was stored there"):
        Backend.deserialize_value(row(stored))


@pytest.mark.parametrize("part_chars", [10, 1000], ids=["in parts", "in one piece"])
def test_purge_gives_the_space_back_and_leaves_a_reason(
    client: TitanClient, monkeypatch: pytest.MonkeyPatch, part_chars: int
) -> None:
    monkeypatch.setattr(xcom, "PART_CHARS", part_chars)
    stored = push("x" * 50)
    purge(stored)
    assert client.store_keys(stored["key"]) == [stored["key"]]
    assert client.store_get(stored["key"]) == ""
    with pytest.raises(TitanXComError, match="was removed from TitanStore: its task was cleared or retried"):
        Backend.deserialize_value(row(stored))
    purge(stored)


@pytest.mark.parametrize("part_chars", [10, 1000], ids=["in parts", "in one piece"])
def test_purge_on_a_master_that_cannot_delete_overwrites(
    client: TitanClient, monkeypatch: pytest.MonkeyPatch, part_chars: int
) -> None:
    monkeypatch.setattr(xcom, "PART_CHARS", part_chars)
    monkeypatch.setattr(TitanClient, "server_info", lambda _: ServerInfo("titan"))
    stored = push("x" * 50)
    purge(stored)
    keys = client.store_keys(stored["key"])
    assert stored["key"] in keys
    assert {client.store_get(key) for key in keys} == {""}
    with pytest.raises(TitanXComError, match="was removed from TitanStore"):
        Backend.deserialize_value(row(stored))


def test_a_purge_touches_nothing_but_what_was_pushed_there(client: TitanClient) -> None:
    client.store_put("team-b:model", "precious")
    mine, theirs = push("mine"), push("theirs", dag_id="other")
    forged = mine | {"key": "team-b:model"}
    for plain in (forged, forged | {"parts": 2 * 10**9}, forged | {"key": mine["key"] + ":0"}, theirs):
        purge(plain)
    purge(mine, task_id="another")
    purge(mine, map_index=0)
    Backend.purge(row(mine))  # whose it is was not told
    assert client.store_get("team-b:model") == "precious"
    assert Backend.deserialize_value(row(mine)) == "mine"
    assert Backend.deserialize_value(row(theirs)) == "theirs"


@needs_airflow_3("whose purge is given the whole row")
def test_airflow_3_deletes_what_was_pushed_for_the_same_task(
    client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ``purge`` gets the value alone; the rest of the coordinate is known while it deletes."""
    mine, theirs = push("mine", map_index=2), push("theirs", dag_id="other")
    supervisor = SimpleNamespace(send=lambda _: None)
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", supervisor, raising=False)
    for stored in (mine, theirs):
        monkeypatch.setattr(Backend, "_get_xcom_db_ref", lambda stored=stored, **_: row(stored))
        Backend.delete(**PLACE | {"map_index": 2})
    assert client.store_get(mine["key"]) == ""
    assert Backend.deserialize_value(row(theirs)) == "theirs"


def test_a_retry_never_overwrites_what_another_task_may_be_reading() -> None:
    first, second = push("one"), push("two")
    assert Backend.deserialize_value(row(first)) == "one"
    assert Backend.deserialize_value(row(second)) == "two"


class TestMasterGone:
    @pytest.fixture(autouse=True)
    def _gone(self, airflow_connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stored = push("value")
        monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", "titan://127.0.0.1:9")
        titan_store._client.cache_clear()

    def test_a_push_says_so(self) -> None:
        with pytest.raises(TitanXComError, match=r"cannot be stored: .*127\.0\.0\.1:9"):
            push("value")

    def test_a_pull_says_so(self) -> None:
        with pytest.raises(TitanXComError, match=r"cannot be read: .*127\.0\.0\.1:9"):
            Backend.deserialize_value(row(self.stored))

    def test_a_purge_does_not_stop_a_new_try(self, caplog: pytest.LogCaptureFixture) -> None:
        purge(self.stored)
        assert "could not be removed from TitanStore" in caplog.text


def test_a_store_that_forgets_fails_the_push(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real master acknowledges writes while its store is down; the bundled one cannot be made to."""
    monkeypatch.setattr(TitanClient, "store_get", lambda *_: None)
    with pytest.raises(TitanXComError, match="a moment after it acknowledged it; the XCom was not pushed"):
        push("value")


def test_a_bad_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    option(monkeypatch, "compression", "brotli")
    with pytest.raises(TitanXComError, match="xcom_compression is 'brotli'; use none or zlib"):
        push("value")


@pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferrable"])
def test_a_whole_dag_with_the_backend_switched_on(
    airflow_home: Path, client: TitanClient, deferrable: bool
) -> None:
    """In a process of its own: Airflow fixes its XCom backend when it is imported."""
    dag_id = unique("xcom")
    script = "import titan_job; titan_job.result({'n': [1, 2, 3]})"
    path = write_dag(
        airflow_home,
        dag_id,
        f"""
        one = TitanJobOperator(task_id="one", script={script!r}, deferrable={deferrable})
        @task
        def add(value): return sum(value["n"])
        @task
        def numbers(value): return value["n"]
        @task.titan
        def again(n): return n * 10
        @task
        def total(values): return sum(values)
        add(one.output)
        total(again.expand(n=numbers(one.output)))
        """,
    )
    env = os.environ | {
        "AIRFLOW__CORE__XCOM_BACKEND": "titan_provider.xcom.titan_store.TitanStoreXComBackend",
        "PYTHONPATH": os.getcwd(),
    }
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "dags", "test", dag_id, dag_file_option(), str(path)],
        env=env,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "state=success" in done.stdout + done.stderr
    stored = references(dag_id)
    assert {task: ref["preview"] for (task, index), ref in stored.items() if index < 0} == {
        "one": '{"n":[1,2,3]}',
        "add": "6",
        "numbers": "[1,2,3]",
        "total": "60",
    }
    assert client.store_get(stored["total", -1]["key"]) == "60"


@pytest.mark.parametrize(
    "first",
    [
        "titan_provider.operators.titan",
        pytest.param(
            "titan_provider.xcom.titan_store",
            marks=needs_airflow_3(
                "the backend's base class imports the backend, so that must not come first"
            ),
        ),
        "titan_provider.hooks.titan",
        "airflow.providers.common.compat.sdk",
    ],
)
def test_switched_on_it_can_be_imported_from_anywhere(first: str) -> None:
    """Airflow resolves its backend in the middle of its own imports, whoever started them."""
    env = os.environ | {"AIRFLOW__CORE__XCOM_BACKEND": f"{Backend.__module__}.{Backend.__name__}"}
    code = f"import {first}\nfrom airflow.providers.common.compat.sdk import XCom\nprint(XCom.__name__)"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1:] == ["TitanStoreXComBackend"], done.stderr


def references(dag_id: str) -> dict[tuple[str, int], dict[str, Any]]:
    """The raw rows, as Airflow's UI and REST API show them."""
    from airflow.utils.session import create_session

    model = xcom_model()
    columns = (model.task_id, model.map_index, model.value)
    with create_session() as session:
        rows = session.query(*columns).filter(model.dag_id == dag_id, model.key == "return_value").all()
    # Airflow 3 may keep the JSON text in its JSON column; Airflow 2 has its bytes.
    return {(task, index): json.loads(v) if isinstance(v, str | bytes) else v for task, index, v in rows}


def test_airflow_3_4_stores_a_value_for_a_coordinate(client: TitanClient) -> None:
    """Which is the same place as before where the task has no region, and another one where it has."""
    names = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": 4, "region_id": uuid.UUID(int=0)}
    stored = database_to_plain(Backend.store_value(SimpleNamespace(**names), "k", [1]))
    assert Backend.deserialize_value(row(stored)) == [1]
    assert read_xcom(client, "d", "r", "t", key="k", map_index=4) == [1]
    region = uuid.uuid4()
    Backend.store_value(SimpleNamespace(**names | {"region_id": region}), "k", [2])
    assert read_xcom(client, "d", "r", "t", key="k", map_index=4) == [1]
    assert read_xcom(client, "d", "r", "t", key="k", map_index=4, region=str(region)) == [2]
    Backend.purge(SimpleNamespace(value=plain_to_database(stored), key="k", **names))
    with pytest.raises(TitanXComError, match="was removed"):
        Backend.deserialize_value(row(stored))
