"""Connecting by name: the resolver is asked once, and what it said is never trusted against the facts."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from titan_sdk.transport import addresses
from titan_sdk.transport.addresses import open_tcp


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setattr(addresses, "_known", {})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_a_name_is_looked_up_once(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    port, asked, look_up = listener.getsockname()[1], [], socket.getaddrinfo

    def counted(host, *args, **kwargs):
        asked.append(host)
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    for _ in range(3):
        with open_tcp("localhost", port, 5.0) as opened:
            assert opened.gettimeout() == 5.0
            assert opened.getpeername()[1] == port
    assert asked == ["localhost"]


def test_an_address_that_fails_is_asked_for_again(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    open_tcp("localhost", port, 5.0).close()
    with socket.create_server(("127.0.0.1", 0)) as gone:
        unused = gone.getsockname()
    since, family, _ = addresses._known["localhost", port]
    addresses._known["localhost", port] = (since, family, unused)
    with open_tcp("localhost", port, 5.0) as opened:
        assert opened.getpeername()[1] == port


def test_an_old_address_is_not_used(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    open_tcp("localhost", port, 5.0).close()
    _, family, address = addresses._known["localhost", port]
    addresses._known["localhost", port] = (-addresses.REMEMBER_SECONDS, family, ("127.0.0.1", 1))
    open_tcp("localhost", port, 5.0).close()
    assert addresses._known["localhost", port][2] == address


def test_nobody_there_is_an_error_and_is_not_remembered(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    open_tcp("localhost", port, 5.0).close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        open_tcp("localhost", port, 5.0)
    assert ("localhost", port) not in addresses._known


def test_a_connection_that_is_reset_at_once_is_its_users(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = socket.create_connection

    def connect_and_be_reset(*args):
        opened = connect(*args)
        theirs, _ = listener.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        with pytest.raises(ConnectionResetError):
            opened.recv(1)
        return opened

    monkeypatch.setattr(socket, "create_connection", connect_and_be_reset)
    with open_tcp("localhost", listener.getsockname()[1], 5.0) as opened:
        assert opened.recv(1) == b""
