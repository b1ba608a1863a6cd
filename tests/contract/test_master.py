"""The master itself: who it is, its workers, and what a wrong address says."""

from __future__ import annotations

import http.server
import socket
import threading

import pytest

from tests.support.blocking_async import BlockingAsyncClient
from tests.support.scripted_peer import ScriptedPeer, raw
from titan_sdk import (
    ClientConfig,
    ConnectFailed,
    InvalidArgument,
    PeerProtocolError,
    RetryPolicy,
    TimedOut,
    TitanClient,
)


def test_the_master_says_who_it_is(api, capabilities):
    info = api.server_info()
    assert info.kind == ("bundled" if capabilities else "titan")


def test_stats_name_the_workers_and_their_tags(api):
    stats = api.cluster_stats()
    assert stats.has_worker_for("GENERAL")
    assert stats.has_worker_for("GPU")
    assert not stats.has_worker_for("gpu")
    assert all(worker.slots >= 1 and worker.running >= 0 for worker in stats.workers)


@pytest.fixture(params=["sync", "async"])
def connect(request):
    return TitanClient if request.param == "sync" else BlockingAsyncClient


@pytest.fixture
def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_an_unreachable_master_says_so(connect, closed_port):
    with (
        connect("127.0.0.1", closed_port) as api,
        pytest.raises(ConnectFailed, match="is a Titan master running there"),
    ):
        api.get_job_status("x")


def test_an_unknown_host_says_so(connect):
    with (
        connect("no-such-host.invalid", 9090) as api,
        pytest.raises(ConnectFailed, match="cannot connect to no-such-host"),
    ):
        api.get_job_status("x")


def test_a_web_server_is_recognised(connect):
    bad_request = raw(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    refused = pytest.raises(
        PeerProtocolError, match=r"an HTTP server; .* its master is a different port, 9090"
    )
    with ScriptedPeer(bad_request) as peer, connect("127.0.0.1", peer.port) as api, refused:
        api.get_job_status("x")


def test_a_web_server_that_waits_for_more_times_out_with_a_hint():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SilentHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    config = ClientConfig("127.0.0.1", server.server_address[1], timeout=0.3)
    try:
        with TitanClient(config=config) as api, pytest.raises(TimedOut, match="such as the HTTP dashboard's"):
            api.get_job_status("x")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class SilentHandler(http.server.BaseHTTPRequestHandler):
    """The standard library's server, minus its chatter on stderr."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        return


def test_a_silent_peer_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = ClientConfig(
            "127.0.0.1", silent.getsockname()[1], timeout=0.2, retry=RetryPolicy(attempts=1)
        )
        with (
            TitanClient(config=config) as api,
            pytest.raises(TimedOut, match=r"no complete reply from .* within 0.2 s"),
        ):
            api.get_job_status("x")


def test_host_and_config_exclude_each_other():
    with pytest.raises(InvalidArgument, match="not both"):
        TitanClient("a", config=ClientConfig())


def test_the_environment_names_the_master(monkeypatch):
    monkeypatch.setenv("TITAN_HOST", "titan.example.org")
    monkeypatch.setenv("TITAN_PORT", "9191")
    assert TitanClient().config.address == "titan.example.org:9191"
    assert TitanClient("other", 1).config.address == "other:1"
    monkeypatch.setenv("TITAN_PORT", "many")
    with pytest.raises(InvalidArgument, match="TITAN_PORT='many' is not a number"):
        TitanClient()
