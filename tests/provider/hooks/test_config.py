from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Connection

from titan_provider.exceptions import TitanConnectionError
from titan_provider.hooks.connection import check_extra, read_connection
from titan_sdk import TLS, ClientConfig

# Airflow 2.11 takes extras that are no object, and warns about its own next version.
TAKES_ANY_EXTRAS = pytest.mark.filterwarnings("ignore:Encountered JSON value in `extra`:DeprecationWarning")


def config(uri: str = "titan://master:9091", **extra: Any) -> ClientConfig:
    conn = Connection(conn_id="my_titan", uri=uri)
    return read_connection(conn, extra).config


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
        ({"timeout": [1]}, "'timeout' [1] is not a number"),
        ({"timeout": float("nan")}, "'timeout' nan is not a number"),
        ({"timeout": 0}, "'timeout' 0 is not a number of seconds above 0"),
        ({"worker_address": "10.0.0.5"}, "'worker_address' '10.0.0.5' is not host:port"),
        ({"worker_address": "::1"}, "write an IPv6 address in brackets, as in [::1]:9090"),
        ({"worker_address": 9090}, "'worker_address' 9090 is not host:port"),
        ({"ca_cert": ["/etc/ca.pem"]}, "'ca_cert' ['/etc/ca.pem'] is not the path of a file"),
        ({"tls": [True]}, "'tls' [True] is neither true nor false"),
        ({"tls": " "}, "'tls' ' ' is neither true nor false"),
        ({"timeot": 5}, "unknown extra 'timeot'; did you mean 'timeout'?"),
        ({"TLS": True}, "unknown extra 'TLS'; did you mean 'tls'?"),
        ({"ca-cert": "/etc/ca.pem"}, "unknown extra 'ca-cert'; did you mean 'ca_cert'?"),
        ({"client_key": "/etc/k.pem"}, "unknown extra 'client_key'; did you mean 'client_"),
        ({"token": "x"}, "unknown extra 'token'; did you mean 'auth_token'?"),
        (
            {"zzz": 1},
            "unknown extra 'zzz'; There are worker_address, dashboard_url, timeout, max_unfinished, tls,",
        ),
        ({"dashboard_url": "titan:5000"}, "'dashboard_url' 'titan:5000' is not a URL"),
        ({"tls": "perhaps"}, "'tls' 'perhaps' is neither true nor false"),
        ({"tls": False, "ca_cert": "/etc/ca.pem"}, "'tls' is false, but 'ca_cert' is set"),
        ({"client_private_key": "/etc/k.pem"}, "is given without client_cert"),
        ({"ca_cert": "-----BEGIN CERTIFICATE-----"}, "ca_cert is a PEM text; write it into a file"),
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


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        (
            "http://master",
            None,
            "host 'http://master' is not a host name; give the name or address alone, without http://",
        ),
        (
            "master:9091",
            None,
            "host 'master:9091' is not a host name; give 'master' as the host and 9091 as the port",
        ),
        ("master", 0, "port 0 is not a port number from 1 to 65535"),
        ("master", 65536, "port 65536 is not a port number from 1 to 65535"),
        ("master", "9090", "port '9090' is not a port number"),
    ],
)
def test_another_host_or_port_is_refused(host: str, port: Any, words: str) -> None:
    conn = Connection(conn_id="my_titan", conn_type="titan", host=host, port=port)
    with pytest.raises(TitanConnectionError) as caught:
        read_connection(conn, {})
    assert str(caught.value).startswith(f"connection 'my_titan': {words}")


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_host_may_stand_in_brackets(host: str) -> None:
    conn = Connection(conn_id="my_titan", conn_type="titan", host=host)
    assert read_connection(conn, None).config.address == "[::1]:9090"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("master:9091", "it is of type 'master', not 'titan'; write its URI as titan://host:port"),
        ("//master:9091", "it is without a type, not 'titan'"),
        ("http://master:9091", "it is of type 'http', not 'titan'"),
        ("titan://master:9091/db", "schema 'db' is set, but Titan has none"),
    ],
)
def test_another_kind_of_connection_is_refused(uri: str, words: str) -> None:
    with pytest.raises(TitanConnectionError, match="connection 'my_titan'") as caught:
        config(uri)
    assert words in str(caught.value)


@TAKES_ANY_EXTRAS
@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[1]", "the extras are a list, not a JSON object"),
        ('"tls"', "the extras are a str, not a JSON object"),
        ("{tls: true}", "the extras are not JSON"),
    ],
)
def test_extras_that_are_no_object_are_refused(extra: str, words: str) -> None:
    conn = Connection(conn_id="my_titan", conn_type="titan", extra=extra)
    with pytest.raises(TitanConnectionError, match="connection 'my_titan'") as caught:
        check_extra(conn)
    assert words in str(caught.value)


@TAKES_ANY_EXTRAS
@pytest.mark.parametrize("extra", [None, "", "{}", "null", '{"tls": true}'])
def test_extras_that_are_an_object_or_none_are_fine(extra: str | None) -> None:
    check_extra(Connection(conn_id="my_titan", conn_type="titan", extra=extra))


def test_a_timeout_may_have_a_unit() -> None:
    assert config(timeout="2m").timeout == 120.0


@pytest.mark.parametrize(("value", "limit"), [(None, None), ("", None), (32, 32), ("32", 32), (32.0, 32)])
def test_the_admission_window_is_a_number_or_nothing(value: Any, limit: int | None) -> None:
    conn = Connection(conn_id="my_titan", uri="titan://master")
    assert read_connection(conn, {"max_unfinished": value}).max_unfinished == limit


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True, [1], float("inf")])
def test_another_admission_window_is_refused(value: Any) -> None:
    conn = Connection(conn_id="my_titan", uri="titan://master")
    with pytest.raises(TitanConnectionError, match=r"'max_unfinished' .* is not a whole number from 1 up"):
        read_connection(conn, {"max_unfinished": value})
