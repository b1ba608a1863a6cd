from __future__ import annotations

import importlib.util

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from titan_provider.exceptions import TitanConnectionError
from titan_provider.get_provider_info import get_provider_info
from titan_provider.hooks.titan import TitanHook
from titan_sdk import ClusterStats, TitanClient

pytestmark = pytest.mark.airflow


def test_it_makes_a_client_of_the_connections_master(airflow_connection: str, client: TitanClient) -> None:
    with TitanHook(airflow_connection).get_conn() as made:
        assert made.config.address == client.config.address
        assert made.server_info() == client.server_info()


async def test_it_makes_an_asynchronous_client(airflow_connection: str, client: TitanClient) -> None:
    hook = TitanHook(airflow_connection)
    async with await hook.get_async_conn() as made:
        assert await made.server_info() == client.server_info()
    assert await hook.get_async_config() is hook.get_config()


def test_making_a_hook_fetches_nothing() -> None:
    assert TitanHook("no-such-connection").titan_conn_id == "no-such-connection"


def test_an_unknown_connection_is_airflows_error() -> None:
    with pytest.raises(AirflowNotFoundException, match="no-such-connection"):
        TitanHook("no-such-connection").get_conn()


def test_the_test_button_tells_master_workers_and_store(airflow_connection: str, client: TitanClient) -> None:
    passed, message = TitanHook(airflow_connection).test_connection()
    assert passed, message
    assert f"{client.server_info()} at {client.config.address}" in message
    assert "3 workers (GENERAL 2, GPU 1)" in message
    assert message.endswith("store round trip OK")


def test_the_test_button_says_when_nothing_would_run(
    airflow_connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TitanClient, "cluster_stats", lambda _: ClusterStats())
    passed, message = TitanHook(airflow_connection).test_connection()
    assert passed, message
    assert "no workers, so every job would wait" in message


def test_the_test_button_says_what_to_do_about_an_unreachable_master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", "titan://127.0.0.1:9")
    passed, message = TitanHook().test_connection()
    assert not passed
    assert "cannot connect to 127.0.0.1:9" in message
    assert "is a Titan master running there?" in message


def test_the_test_button_explains_a_bad_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", "titan://master/?tls=perhaps")
    passed, message = TitanHook().test_connection()
    assert not passed
    assert "extra 'tls' 'perhaps' is neither true nor false" in message


def test_a_store_that_loses_values_fails_the_test(
    airflow_connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a real master behaves while its store is down; the bundled one cannot be made to."""
    monkeypatch.setattr(TitanClient, "store_get", lambda *_: None)
    passed, message = TitanHook(airflow_connection).test_connection()
    assert not passed
    assert "its store lost a value written a moment ago" in message


def test_bad_extras_reach_the_user_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", "titan://master/?timeout=soon")
    with pytest.raises(TitanConnectionError, match="'timeout' 'soon' is not a number"):
        TitanHook().get_conn()


def test_airflow_2_gets_the_same_form_from_python() -> None:
    declared = get_provider_info()["connection-types"][0]  # type: ignore[index]
    behaviour = TitanHook.get_ui_field_behaviour()
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    assert behaviour["placeholders"] == declared["ui-field-behaviour"]["placeholders"]
    widgets = TitanHook.get_connection_form_widgets()
    if importlib.util.find_spec("wtforms") is None:
        assert widgets == {}, "Airflow 3 draws the form from the provider info alone"
    else:
        assert set(widgets) == set(declared["conn-fields"])
        assert widgets["auth_token"].field_class.__name__ == "PasswordField"
