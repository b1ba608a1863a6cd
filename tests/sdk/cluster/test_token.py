"""A master that wants a token: who is let in, what the others hear, and that the token stays out of sight."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Peer, frame, read_reply, script
from tests.support.blocking_async import BlockingAsyncClient
from titan_sdk import ClientConfig, JobStatus, TitanClient, TitanJob
from titan_sdk.cluster import ClusterSettings, LocalCluster, ServerTLS
from titan_sdk.errors import AuthenticationFailed, InvalidArgument
from titan_sdk.wire.opcodes import Opcode

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster({"GENERAL": 2}, token=TOKEN) as running:
        yield running


@pytest.fixture
def peer(cluster: LocalCluster) -> Peer:
    return Peer((cluster.host, cluster.port))


@pytest.fixture(params=[TitanClient, BlockingAsyncClient], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> type[TitanClient]:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("keep_alive", [True, False])
def test_the_token_lets_a_client_in(kind: type[TitanClient], cluster: LocalCluster, keep_alive: bool) -> None:
    config = ClientConfig(cluster.host, cluster.port, auth_token=TOKEN, keep_alive=keep_alive)
    with kind(config=config) as client:
        for number in range(3):
            client.store_put("k", str(number))
            assert client.store_get("k") == str(number)


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize(
    ("token", "sentence"),
    [(None, "wants a token and got none"), ("another-token-of-mine", "is not this master's")],
)
def test_without_it_the_error_is_typed(
    kind: type[TitanClient], cluster: LocalCluster, keep_alive: bool, token: str | None, sentence: str
) -> None:
    config = ClientConfig(cluster.host, cluster.port, auth_token=token, keep_alive=keep_alive)
    with kind(config=config) as client:
        for ask in (
            lambda: client.store_get("k"),
            lambda: client.fetch_logs("x"),
            lambda: client.store_put("k", "v"),
        ):
            with pytest.raises(AuthenticationFailed) as caught:
                ask()
            assert sentence in str(caught.value)


def test_a_changed_token_is_noticed_by_a_client_that_was_let_in(
    tmp_path: Path, kind: type[TitanClient]
) -> None:
    with LocalCluster({"GENERAL": 1}, token=TOKEN, data_dir=tmp_path) as first:
        port = first.port
        client = kind(config=ClientConfig(first.host, port, auth_token=TOKEN))
        client.store_put("k", "v")
    with (
        LocalCluster({"GENERAL": 1}, token="the-new-token-is-this", data_dir=tmp_path, port=port),
        client,
        pytest.raises(AuthenticationFailed),
    ):
        client.store_get("k")


def test_text_that_looks_like_a_refusal_is_only_text(kind: type[TitanClient]) -> None:
    with LocalCluster({"GENERAL": 1}) as open_master:
        peer = Peer((open_master.host, open_master.port))
        text = "ERROR: AUTHENTICATION: not really"
        assert peer.ask(Opcode.KV_SET, f"k|{text}").text == "OK"
        with kind(config=ClientConfig(open_master.host, open_master.port, keep_alive=False)) as client:
            assert client.store_get("k") == text


def test_every_opcode_but_hello_is_refused_with_a_sentence(peer: Peer) -> None:
    replies = {opcode.name: peer.ask(opcode, "x|y") for opcode in Opcode if opcode != Opcode.HELLO}
    assert {
        name: reply
        for name, reply in replies.items()
        if reply.opcode != Opcode.ERROR or "only after a HELLO with its token" not in reply.text
    } == {}


def test_a_refused_job_does_not_run(peer: Peer, cluster: LocalCluster, tmp_path: Path) -> None:
    assert "HELLO" in peer.submit(script("job", f"open({str(tmp_path / 'ran')!r}, 'w')")).text
    with TitanClient(config=ClientConfig(cluster.host, cluster.port, auth_token=TOKEN)) as client:
        assert client.get_job_status("job") is JobStatus.UNKNOWN
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b'{"v":1}',
        b'{"v":1,"token":null}',
        b'{"token":["' + TOKEN.encode() + b'"]}',
        b"[" * 20_000,
        b"\xff\xfe",
        TOKEN.encode(),
    ],
)
def test_a_strange_hello_gets_nobody_in(peer: Peer, payload: bytes) -> None:
    with peer.connect() as sock:
        sock.sendall(frame(Opcode.HELLO, payload) + frame(Opcode.KV_GET, "k"))
        assert "AUTHENTICATION" in read_reply(sock).text
        assert "AUTHENTICATION" in read_reply(sock).text
        assert sock.recv(1) == b""


def test_a_stranger_cannot_fill_the_masters_memory(peer: Peer) -> None:
    with peer.connect() as sock:
        sock.sendall(frame(Opcode.UPLOAD_ASSET, b"x" * 100, length=10_000_000))
        assert sock.recv(1) == b""


def test_jobs_have_a_way_in_and_never_see_the_token(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        "import os, titan_job\n"
        "from titan_sdk import TitanClient\n"
        "with TitanClient() as client:\n"
        "    client.store_put('from-the-job', 'hello')\n"
        "titan_job.result(dict(os.environ))\n"
    )
    with TitanClient(config=ClientConfig(cluster.host, cluster.port, auth_token=TOKEN)) as client:
        handle = client.submit_job(TitanJob("inside", str(job), env={"PYTHONPATH": os_path()}))
        assert handle.wait(300).state is JobStatus.COMPLETED
        assert client.store_get("from-the-job") == "hello"
        environment = handle.result()
    assert TOKEN not in repr(environment)
    assert "TITAN_AUTH_TOKEN" not in environment


def os_path() -> str:
    return str(Path(__file__).parents[3])


def test_the_way_in_is_for_this_user_only(cluster: LocalCluster) -> None:
    socket = cluster.data_dir / "local" / "jobs.sock"
    assert socket.parent.stat().st_mode & 0o077 == 0
    assert socket.stat().st_mode & 0o077 == 0


def test_a_long_folder_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    job = tmp_path / "job.py"
    job.write_text("import titan_job; titan_job.result(1)")
    with (
        LocalCluster({"GENERAL": 1}, token=TOKEN, data_dir=deep) as cluster,
        TitanClient(config=ClientConfig(cluster.host, cluster.port, auth_token=TOKEN)) as client,
    ):
        assert client.submit_job(TitanJob("deep", str(job))).wait(300).state is JobStatus.COMPLETED


def test_the_token_is_shown_nowhere(
    cluster: LocalCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture, peer: Peer
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = ClusterSettings(tmp_path, token=TOKEN)
    config = ClientConfig(auth_token=TOKEN)
    with TitanClient(config=ClientConfig(cluster.host, cluster.port, auth_token=TOKEN)) as client:
        shown = [
            repr(client.cluster_stats()),
            repr(client.server_info()),
            repr(client),
            client._run.__self__.config,
        ]  # type: ignore[attr-defined]
    peer.ask(Opcode.HELLO, f'{{"token":"{TOKEN[:-1]}"}}')
    with pytest.raises(InvalidArgument) as caught:
        ClientConfig(auth_token=TOKEN + " with spaces")
    everything = [
        repr(settings),
        repr(config),
        str(config),
        str(caught.value),
        caplog.text,
        *map(repr, shown),
    ]
    assert not [text for text in everything if TOKEN[:-1] in text]
    assert "***" in repr(settings)


@pytest.mark.parametrize("token", ["short", "", "has spaces in between", "ünïcödé-token-here"])
def test_a_weak_or_impossible_token_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ClusterSettings(tmp_path, token=token)
    assert "token" in str(caught.value)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "titan.example.org"])
def test_an_open_port_is_refused_unless_told_otherwise(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidArgument, match="is reachable from other machines"):
        ClusterSettings(tmp_path, host=host)
    with pytest.raises(InvalidArgument, match="is reachable from other machines"):
        ClusterSettings(tmp_path, host=host, tls=ServerTLS("cert.pem"))
    ClusterSettings(tmp_path, host=host, insecure=True)
    ClusterSettings(tmp_path, host=host, token=TOKEN)
    ClusterSettings(tmp_path, host=host, tls=ServerTLS("cert.pem", client_ca="ca.pem"))
