"""How many connections the launcher's client makes, against peers that count them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.flaky_proxy import FlakyProxy
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.runtime.worker import store
from titan_sdk.runtime.worker.store import StoreConnection, StoreError

HELLO = 0x40


class Peer:
    """Answers every request with ``OK``, and HELLO as it is told; notes opcodes, a list for each connection."""

    def __init__(self, greeting: bytes, requests_each: int) -> None:
        self.greeting, self.requests_each = greeting, requests_each
        self.connections: list[list[int]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near, near.makefile("rb") as stream:
                opcodes: list[int] = []
                self.connections.append(opcodes)
                while len(opcodes) < self.requests_each and (head := stream.read(8)):
                    stream.read(int.from_bytes(head[4:], "big"))
                    opcodes.append(head[1])
                    text = self.greeting if head[1] == HELLO else b"OK"
                    near.sendall(bytes((1, 0x50, 0, 0)) + len(text).to_bytes(4, "big") + text)


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    made: list[Peer] = []
    yield made
    for peer in made:
        peer.close()


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TITAN_KEEP_ALIVE", "1")


def write(port: int, times: int) -> None:
    master = StoreConnection("127.0.0.1", port)
    for number in range(times):
        master.set(f"k{number}", "v")
    for kept in master._kept:
        kept.close()


def test_a_real_master_gets_one_request_per_connection(peers: list[Peer]) -> None:
    peers.append(Peer(b"", 1))
    write(peers[0].port, 3)
    assert peers[0].connections == [[0x60]] * 3


def test_one_connection_is_kept_where_the_master_keeps_it(peers: list[Peer], keeping: None) -> None:
    peers.append(Peer(b'{"server":"x"}', 100))
    write(peers[0].port, 3)
    assert peers[0].connections == [[HELLO, 0x60, 0x60, 0x60]]


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(peers: list[Peer], keeping: None) -> None:
    peers.append(Peer(b'{"server":"x"}', 2))
    write(peers[0].port, 3)
    assert peers[0].connections == [[HELLO, 0x60]] * 3


def test_a_master_that_does_not_know_the_greeting_is_used_as_a_real_one(
    peers: list[Peer], keeping: None
) -> None:
    peers.append(Peer(b"UNKNOWN_OPCODE: 64", 1))
    write(peers[0].port, 2)
    assert peers[0].connections == [[HELLO], [0x60], [0x60]]


@pytest.mark.parametrize("tries", [1, 2], ids=["at once", "by persist"])
def test_a_write_whose_reply_was_lost_is_not_made_again(keeping: None, tries: int) -> None:
    with (
        LocalCluster({"GENERAL": 1}) as cluster,
        TitanClient(cluster.host, cluster.port) as other,
        FlakyProxy(cluster.host, cluster.port) as proxy,
    ):
        master = StoreConnection("127.0.0.1", proxy.port)
        for _ in range(2):
            other.store_put("k", "{}")
            assert master.get("k") == "{}"
            proxy.before_the_loss = lambda: other.store_put("k", '{"v": "theirs"}')
            proxy.lose = b"mine"
            if tries == 2:
                master._kept.pop().close()  # so that the lost reply is not on a kept connection
            store.persist(lambda: master.set("k", '{"v": "mine"}'), lambda: time.monotonic() + 30)
            assert other.store_get("k") == '{"v": "theirs"}'
            master.set("k", '{"v": "mine"}')
            assert other.store_get("k") == '{"v": "mine"}', "the same text later is another write"
        for kept in master._kept:
            kept.close()


def test_a_record_that_is_there_is_not_written_again_on_a_real_master() -> None:
    with LocalCluster(strict_titan=True) as cluster, TitanClient(cluster.host, cluster.port) as other:
        with FlakyProxy(cluster.host, cluster.port) as proxy:
            master = StoreConnection("127.0.0.1", proxy.port)
            proxy.lose = b"mine"
            master.confirm("k", '{"v": "mine"}')
            assert proxy.broken == 1
        assert other.store_get("k") == '{"v": "mine"}'


def test_nobody_there_is_said_as_before(keeping: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(StoreError, match=f"no exchange with 127.0.0.1:{port}"):
        write(port, 1)


def test_jobs_of_a_bundled_master_are_told_that_it_keeps_connections(tmp_path: Path) -> None:
    script = tmp_path / "tell.py"
    script.write_text(
        "import os, titan_job\ntitan_job.result(os.environ['TITAN_KEEP_ALIVE'])\n", encoding="utf-8"
    )
    with LocalCluster(workers={"GENERAL": 1}) as cluster, TitanClient(cluster.host, cluster.port) as client:
        assert client.submit_job(TitanJob("tell", str(script))).wait(timeout=60).result == "1"
