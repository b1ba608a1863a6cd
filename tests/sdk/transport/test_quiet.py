"""Whether a kept connection can be used again, told of real sockets."""

from __future__ import annotations

import os
import socket

import pytest

from titan_sdk.transport.sync import is_quiet


def test_quiet_is_neither_closed_nor_talking() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        assert is_quiet(ours)
        peer.sendall(b"x")
        assert not is_quiet(ours)
        assert ours.recv(1) == b"x"
        assert is_quiet(ours)
        peer.close()
        assert not is_quiet(ours)


def test_descriptors_above_what_select_can_name_are_looked_at() -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    made, peer = socket.socketpair()
    high = made.detach()
    try:
        os.dup2(high, 2000)
        with socket.socket(fileno=2000) as far:
            assert is_quiet(far)
    finally:
        os.close(high)
        peer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
