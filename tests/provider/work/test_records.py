from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.airflow_run import unique
from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.work.plan import Record
from titan_provider.work.records import AirflowRecords, TitanRecords, record_store
from titan_provider.work.remote import new_record
from titan_sdk import TitanClient

pytestmark = pytest.mark.airflow


def context(**changes: Any) -> Any:
    """As much of a task's context as a record needs. Manual runs have no logical date, so none is here."""
    names = {"dag_id": "d", "task_id": "t", "run_id": unique("manual"), "map_index": -1, "try_number": 1}
    ti = SimpleNamespace(max_tries=2, **(names | changes))
    run = SimpleNamespace(clear_number=0, start_date=datetime(2026, 1, 1, tzinfo=UTC))
    return {"ti": ti, "dag_run": run}


def test_a_record_comes_back_to_a_later_try(client: TitanClient) -> None:
    here = context()
    record = new_record(here)
    record_store(here, client).save(record.to_json(), "")
    assert Record.from_json(record_store(here, client).load()) == record
    assert isinstance(record_store(here, client), TitanRecords)
    assert record.run_started == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("other", [{"task_id": "u"}, {"map_index": 3}, {"dag_id": "e"}, {"run_id": "other"}])
def test_no_two_task_instances_share_a_record(client: TitanClient, other: dict[str, Any]) -> None:
    here = context()
    record_store(here, client).save(new_record(here).to_json(), "")
    names = vars(here["ti"]) | other
    there = context(**{k: names[k] for k in ("dag_id", "task_id", "run_id", "map_index")})
    assert record_store(there, client).load() is None


def test_another_airflow_on_the_same_master_has_records_of_its_own(
    client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scheduled runs of one DAG have the same run id in every deployment."""
    here = context()
    record_store(here, client).save(new_record(here).to_json(), "")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://staging.example/execution/")
    assert record_store(here, client).load() is None


def test_airflows_own_store_is_used_where_there_is_one(client: TitanClient) -> None:
    here = context() | {"task_state_store": object()}
    assert isinstance(record_store(here, client), AirflowRecords)


def test_a_store_that_loses_the_record_stops_the_submit(
    client: TitanClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real master acknowledges writes while its store is down."""
    monkeypatch.setattr(client, "store_put", lambda *_: None)
    with pytest.raises(TitanMasterUnreachable, match="nothing was submitted: TitanStore behind"):
        record_store(context(), client).save(Record("job", "0" * 16, 0, 0).to_json(), "")


def test_ids_name_the_mapped_task_and_the_try() -> None:
    record = new_record(context(map_index=3, try_number=2))
    assert ".m3.t2-" in record.job_id
    assert new_record(context(), "mine").job_id.startswith("mine.")
    assert len(record.nonce) == 16
