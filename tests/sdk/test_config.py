"""Configuration: frozen values, the environment, addresses; nonsense is named."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from titan_sdk.config import TLS, ClientConfig, RetryPolicy
from titan_sdk.errors import InvalidArgument


def test_the_defaults_are_the_seed_s() -> None:
    config = ClientConfig()
    assert (config.host, config.port, config.address) == ("localhost", 9090, "localhost:9090")
    assert (config.connect_timeout, config.timeout) == (5.0, 30.0)
    assert config.address_for_workers == ("localhost", 9090)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.port = 1  # type: ignore[misc]


def test_an_ipv6_host_stands_in_brackets() -> None:
    assert ClientConfig("::1", 1).address == "[::1]:1"


def test_workers_may_have_another_address() -> None:
    config = ClientConfig(worker_address=("master.internal", 19090))
    assert config.address_for_workers == ("master.internal", 19090)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"host": ""}, "host '' is not a host name; give the name or address alone, without http://"),
        ({"host": "http://h"}, "host 'http://h' is not a host name; give the name or address alone"),
        ({"host": "a b"}, "host 'a b' is not a host name"),
        ({"port": 0}, "port 0 is not a port number from 1 to 65535"),
        ({"port": 65536}, "port 65536 is not a port number from 1 to 65535"),
        ({"port": "9090"}, "port '9090' is not a port number from 1 to 65535"),
        ({"port": True}, "port True is not a port number from 1 to 65535"),
        ({"worker_address": ("h", 0)}, "worker_address port 0 is not a port number from 1 to 65535"),
        ({"timeout": 0}, "timeout 0 is not a number of seconds above 0"),
        ({"connect_timeout": float("nan")}, "connect_timeout nan is not a number of seconds above 0"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ClientConfig(**change)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("policy", [{"attempts": 0}, {"first_pause": -0.1}])
def test_a_retry_policy_tries_at_least_once(policy: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="attempts must be 1 or more and first_pause 0 or more"):
        RetryPolicy(**policy)


# -- environment --------------------------------------------------------------------------------------


def test_an_empty_environment_gives_the_defaults() -> None:
    assert ClientConfig.from_env({}) == ClientConfig()
    assert ClientConfig.from_env({"TITAN_HOST": "", "TITAN_PORT": "", "TITAN_TIMEOUT": ""}) == ClientConfig()


def test_every_variable_is_read() -> None:
    config = ClientConfig.from_env(
        {
            "TITAN_HOST": "titan.example.org",
            "TITAN_PORT": "19090",
            "TITAN_WORKER_ADDRESS": "10.0.0.5:9090",
            "TITAN_DASHBOARD_URL": "http://titan:5000",
            "TITAN_TIMEOUT": "2.5",
        }
    )
    assert config == ClientConfig(
        host="titan.example.org",
        port=19090,
        worker_address=("10.0.0.5", 9090),
        dashboard_url="http://titan:5000",
        timeout=2.5,
    )


def test_arguments_win_over_the_environment() -> None:
    config = ClientConfig.from_env({"TITAN_HOST": "a", "TITAN_PORT": "1"}, host="b", port=2)
    assert (config.host, config.port) == ("b", 2)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("TITAN_PORT", "http", "environment variable TITAN_PORT='http' is not a number"),
        ("TITAN_PORT", "0", "TITAN_PORT 0 is not a port number from 1 to 65535"),
        ("TITAN_PORT", "9_0", "environment variable TITAN_PORT='9_0' is not a number"),
        (
            "TITAN_TIMEOUT",
            "soon",
            (
                "TITAN_TIMEOUT 'soon' is not a number of seconds above 0, a text such as '10m', "
                "'1h30m' or '500ms', or a timedelta"
            ),
        ),
        (
            "TITAN_HOST",
            "titan:9091",
            ("TITAN_HOST 'titan:9091' is not a host name; give 'titan' as the host and 9091 as the port"),
        ),
        (
            "TITAN_DASHBOARD_URL",
            "titan:5000",
            ("TITAN_DASHBOARD_URL 'titan:5000' is not a URL; write it as http://titan.example.org:5000"),
        ),
        (
            "TITAN_WORKER_ADDRESS",
            "titan",
            "TITAN_WORKER_ADDRESS 'titan' is not host:port, for example titan.example.org:9090",
        ),
        (
            "TITAN_WORKER_ADDRESS",
            "titan:99999",
            "TITAN_WORKER_ADDRESS 99999 is not a port number from 1 to 65535",
        ),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ClientConfig.from_env({variable: value})
    assert str(caught.value) == sentence


def test_a_configuration_excludes_host_and_port() -> None:
    config = ClientConfig("h", 1)
    assert ClientConfig.choose(config, None, None, {"TITAN_HOST": "x"}) is config
    assert ClientConfig.choose(None, "h", 1, {}) == config
    with pytest.raises(InvalidArgument, match="give host and port, or config, not both"):
        ClientConfig.choose(config, "h", None, {})


# -- addresses ----------------------------------------------------------------------------------------


def test_a_host_may_be_written_as_in_a_url() -> None:
    assert ClientConfig("[::1]").host == "::1"
    assert ClientConfig.from_env({"TITAN_HOST": "[::1]"}).host == "::1"
    with pytest.raises(InvalidArgument, match=r"host 'h:9090' is not a host name; give "):
        ClientConfig("h:9090")
    with pytest.raises(InvalidArgument, match=r"host 'h:9090' is not a host name; give "):
        ClientConfig.choose(None, "h:9090", None, {})


def test_a_dashboard_is_a_url_without_a_slash_at_its_end() -> None:
    assert ClientConfig(dashboard_url="http://h:5000/").dashboard_url == "http://h:5000"
    with pytest.raises(InvalidArgument, match="dashboard_url 'h:5000' is not a URL"):
        ClientConfig(dashboard_url="h:5000")


@pytest.mark.parametrize("written", [("[::1]", 9090), "[::1]:9090", ["::1", 9090]])
def test_a_worker_address_may_be_a_pair_or_a_text(written: Any) -> None:
    assert ClientConfig(worker_address=written).worker_address == ("::1", 9090)


@pytest.mark.parametrize("written", ["::1", ("h:1", 1), ("h",), ("h", "1"), 7])
def test_another_worker_address_is_refused(written: Any) -> None:
    with pytest.raises(InvalidArgument, match="worker_address"):
        ClientConfig(worker_address=written)


def test_seconds_may_be_written_with_a_unit() -> None:
    assert ClientConfig(timeout="2m").timeout == 120.0  # type: ignore[arg-type]
    assert ClientConfig.from_env({"TITAN_TIMEOUT": "500ms"}).timeout == 0.5


# ---------------------------------------------------------------------- TLS and the token


@pytest.mark.parametrize(
    ("environ", "tls"),
    [
        ({}, None),
        ({"TITAN_TLS": "0"}, None),
        ({"TITAN_TLS": "1"}, TLS()),
        ({"TITAN_TLS": "yes", "TITAN_CA_CERT": "ca"}, TLS("ca")),
        ({"TITAN_CA_CERT": "ca"}, TLS("ca")),
        (
            {"TITAN_CLIENT_CERT": "c", "TITAN_CLIENT_KEY": "k", "TITAN_TLS_SERVER_NAME": "n"},
            TLS(client_cert="c", client_key="k", server_name="n"),
        ),
    ],
)
def test_tls_from_the_environment(environ: dict[str, str], tls: TLS | None) -> None:
    assert ClientConfig.from_env(environ).tls == tls


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"TITAN_TLS": "perhaps"}, "TITAN_TLS='perhaps' is neither 1 nor 0"),
        ({"TITAN_TLS": "0", "TITAN_CA_CERT": "ca"}, "TITAN_TLS=0 turns TLS off, but TITAN_CA_CERT is set"),
        ({"TITAN_CLIENT_KEY": "k"}, "client_key 'k' is given without client_cert"),
        ({"TITAN_CA_CERT": "-----BEGIN X"}, "ca_cert is a PEM text; write it into a file"),
        ({"TITAN_AUTH_TOKEN": "a b"}, "auth_token is empty or holds spaces"),
    ],
)
def test_contradictions_about_security_are_refused(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ClientConfig.from_env(environ)
    assert sentence in str(caught.value)


def test_a_token_is_compared_and_hashed_as_text_and_never_shown() -> None:
    one, other = (ClientConfig.from_env({"TITAN_AUTH_TOKEN": text}) for text in ("secret-1", "secret-1\n"))
    assert one == other == ClientConfig(auth_token="secret-1")
    assert len({one, other}) == 1
    assert "secret" not in f"{one} {one!r} {dataclasses.replace(one, port=1)!r}"
    assert one.auth_token == "secret-1"


def test_a_job_uses_its_masters_socket_unless_it_names_another_master() -> None:
    environ = {"TITAN_SOCKET": "/x/jobs.sock", "TITAN_HOST": "master", "TITAN_CA_CERT": "ca"}
    inside = ClientConfig.from_env(environ)
    assert (inside.socket_path, inside.tls, inside.address) == ("/x/jobs.sock", None, "unix:/x/jobs.sock")
    assert ClientConfig.from_env(environ, host="other").socket_path is None
    assert ClientConfig.from_env(environ, port=1).tls == TLS("ca")
