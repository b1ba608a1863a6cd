from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Connection

from titan_provider.exceptions import TitanConnectionError
from titan_provider.hooks.config import client_config, max_unfinished
from titan_sdk import TLS, ClientConfig


def config(uri: str = "titan://master:9091", **extra: Any) -> ClientConfig:
    conn = Connection(conn_id="my_titan", uri=uri)
    return client_config(conn, extra)


def test_an_empty_connection_means_the_defaults() -> None:
    assert config("titan://") == ClientConfig(host="localhost", port=9090)


def test_host_port_and_extras_arrive() -> None:
    got = config(worker_address="10.0.0.5:9090", dashboard_url="http://titan:5000/", timeout="12.5")
    assert (got.host, got.port, got.timeout) == ("master", 9091, 12.5)
    assert got.worker_address == ("10.0.0.5", 9090)
    assert got.dashboard_url == "http://titan:5000"


def test_fields_that_the_form_stored_as_null_are_unset() -> None:
    names = ("worker_address", "dashboard_url", "timeout", "tls", "auth_token", "client_private_key")
    assert config(**dict.fromkeys(names)) == config()
    assert config(tls=False, timeout="", auth_token="") == config()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"timeout": "soon"}, "'timeout' 'soon' is not a number"),
        ({"timeout": True}, "'timeout' True is not a number"),
        ({"timeout": 0}, "timeout 0.0 is not a number of seconds above 0"),
        ({"worker_address": "10.0.0.5"}, "worker_address '10.0.0.5' is not host:port"),
        ({"dashboard_url": "titan:5000"}, "'dashboard_url' 'titan:5000' is not a URL"),
        ({"tls": "perhaps"}, "'tls' 'perhaps' is neither true nor false"),
        ({"tls": False, "ca_cert": "/etc/ca.pem"}, "'tls' is false, but 'ca_cert' is set"),
        ({"client_private_key": "/etc/k.pem"}, "is given without client_cert"),
        ({"ca_cert": "-----BEGIN CERTIFICATE-----"}, "ca_cert holds a PEM text; write it into a file"),
        ({"auth_token": 12345}, "'auth_token' is not a text"),
        ({"auth_token": "with space"}, "auth_token is empty or holds spaces"),
    ],
)
def test_bad_extras_are_refused_with_a_sentence(extra: dict[str, Any], words: str) -> None:
    with pytest.raises(TitanConnectionError, match="connection 'my_titan'") as caught:
        config(**extra)
    assert words in str(caught.value)


def test_no_secret_is_repeated_in_a_refusal() -> None:
    with pytest.raises(TitanConnectionError) as caught:
        config(auth_token="hunter 2")
    assert "hunter" not in str(caught.value)
    assert "hunter2" not in repr(config(auth_token="hunter2"))


def test_tls_and_the_token_arrive() -> None:
    got = config(tls=True, auth_token="hunter2")
    assert (got.tls, got.auth_token) == (TLS(), "hunter2")
    files = {"ca_cert": "/ca.pem", "client_cert": "/c.pem", "client_private_key": "/k.pem"}
    for given in ({"tls": "true", **files}, files):
        assert config(**given).tls == TLS("/ca.pem", "/c.pem", "/k.pem")


@pytest.mark.parametrize("uri", ["titan://joe@master:9090", "titan://:secret@master:9090"])
def test_users_and_passwords_are_refused(uri: str) -> None:
    with pytest.raises(TitanConnectionError, match="no users or passwords"):
        config(uri)


def test_a_url_as_host_is_refused() -> None:
    conn = Connection(conn_id="my_titan", conn_type="titan", host="http://master")
    with pytest.raises(TitanConnectionError, match="without http://"):
        client_config(conn, {})


@pytest.mark.parametrize(("value", "limit"), [(None, None), ("", None), (32, 32), ("32", 32), (32.0, 32)])
def test_the_admission_window_is_a_number_or_nothing(value: Any, limit: int | None) -> None:
    conn = Connection(conn_id="my_titan", uri="titan://master")
    assert max_unfinished(conn, {"max_unfinished": value}) == limit


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True, [1]])
def test_another_admission_window_is_refused(value: Any) -> None:
    conn = Connection(conn_id="my_titan", uri="titan://master")
    with pytest.raises(TitanConnectionError, match=r"'max_unfinished' .* is not a whole number from 1 up"):
        max_unfinished(conn, {"max_unfinished": value})
