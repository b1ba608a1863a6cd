"""The bytes of one socket, between two real ones."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from titan_sdk.transport import stream
from titan_sdk.transport.stream import KeenStream, open_stream

Pair = tuple[stream.Stream, socket.socket]


@pytest.fixture(params=[True, False], ids=["keen", "blocking"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    ours, peer = socket.socketpair()
    with ours, peer:
        yield open_stream(ours, 0.05, keen=request.param), peer


def test_what_is_there_is_received(pair: Pair) -> None:
    ours, peer = pair
    peer.sendall(b"abc")
    assert ours.receive(2) == b"ab"
    assert ours.receive(10) == b"c"
    peer.close()
    assert ours.receive(10) == b""


def test_what_comes_after_the_look_is_waited_for(pair: Pair) -> None:
    ours, peer = pair
    with pytest.raises(TimeoutError):
        ours.receive(1)
    peer.sendall(b"late")
    assert ours.receive(10) == b"late"


def test_a_peer_that_never_answers_is_given_up_each_time(pair: Pair) -> None:
    ours, _ = pair
    for _ in range(3):
        with pytest.raises(TimeoutError):
            ours.receive(1)


@pytest.mark.parametrize("keen", [True, False], ids=["keen", "blocking"])
def test_more_than_the_kernel_takes_at_once_is_sent_whole(keen: bool) -> None:
    near, peer = socket.socketpair()
    # The time that a stream has is for all that is sent, and the reader of this may have to wait for its turn.
    ours = open_stream(near, 60.0, keen=keen)
    data = os.urandom(4 * 1024 * 1024)
    found = bytearray()

    def read() -> None:
        while len(found) < len(data):
            found.extend(peer.recv(65_536))

    reader = threading.Thread(target=read)
    reader.start()
    with near, peer:
        ours.send_all(data)
        reader.join()
        assert found == data
        peer.sendall(b"ok")
        assert ours.receive(2) == b"ok"


def test_a_peer_that_reads_nothing_is_given_up(pair: Pair) -> None:
    ours, _ = pair
    with pytest.raises(TimeoutError):
        ours.send_all(bytes(64 * 1024 * 1024))


def test_quiet_is_neither_closed_nor_talking(pair: Pair) -> None:
    ours, peer = pair
    assert ours.is_quiet()
    peer.sendall(b"x")
    assert not ours.is_quiet()
    assert ours.receive(1) == b"x"
    assert ours.is_quiet()
    peer.close()
    assert not ours.is_quiet()


def test_descriptors_above_what_select_can_name_are_looked_at(pair: Pair) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    made, peer = socket.socketpair()
    high = made.detach()
    try:
        os.dup2(high, 2000)
        with socket.socket(fileno=2000) as far:
            assert open_stream(far, 1.0, keen=isinstance(pair[0], KeenStream)).is_quiet()
    finally:
        os.close(high)
        peer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_look_in_vain_is_repeated_less_and_less_until_one_is_not_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "LOOK_SECONDS", 0.0)
    ours, peer = socket.socketpair()
    with ours, peer:
        looks: list[bool] = []

        class Counted(socket.socket):
            def recv(self, size: int, flags: int = 0) -> bytes:
                looks.append(self.gettimeout() == 0)
                return super().recv(size, flags)

            def settimeout(self, seconds: float | None) -> None:
                super().settimeout(seconds)
                if seconds and looks[-1:] == [True]:
                    peer.sendall(b"x")  # as soon as nobody looks any more

        keen = KeenStream(Counted(fileno=ours.detach()), 10.0)

        def looked(*, late: bool) -> bool:
            looks.clear()
            if not late:
                peer.sendall(b"x")
            assert keen.receive(1) == b"x"
            return looks[0]

        for skipped in (0, 1, 3, 7, stream.LOOKS_SKIPPED, stream.LOOKS_SKIPPED):
            assert looked(late=True)
            assert [looked(late=False) for _ in range(skipped)] == [False] * skipped
        assert looked(late=False)
        for skipped in (0, 1):
            assert looked(late=True)
            assert [looked(late=False) for _ in range(skipped)] == [False] * skipped
        keen.close()
