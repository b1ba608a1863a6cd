"""What is there is found without sleeping; what is not there costs a look, and then none for a while."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Iterator

import pytest

from titan_sdk.cluster import looking
from titan_sdk.cluster.looking import LOOKS_SKIPPED, KeenLoop, KeenSelector


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The timeouts with which the system was asked."""
    found: list[float | None] = []
    real = selectors.DefaultSelector.select

    def select(self: selectors.BaseSelector, timeout: float | None = None) -> object:
        found.append(timeout)
        return real(self, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", select)
    return found


def test_what_is_expected_and_there_is_found_by_a_look(
    pair: tuple[socket.socket, socket.socket], waits: list[float | None]
) -> None:
    near, far = pair
    with KeenSelector() as selector:
        selector.register(near, selectors.EVENT_READ)
        far.send(b"!")
        selector.expect()
        ((key, _),) = selector.select(None)
    assert (key.fileobj, waits) == (near, [0])


def test_a_look_in_vain_is_followed_by_sleep_and_repeated_less_and_less(
    pair: tuple[socket.socket, socket.socket], waits: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    monkeypatch.setattr(looking, "LOOK_SECONDS", 0.0005)

    def waited(selector: KeenSelector, *, found: bool) -> list[float | None]:
        waits.clear()
        selector.expect()
        assert bool(selector.select(0.001)) is found
        return list(waits)

    with KeenSelector() as selector:
        selector.register(near, selectors.EVENT_READ)
        for skipped in (0, 1, 3, 7, LOOKS_SKIPPED, LOOKS_SKIPPED):
            in_vain = waited(selector, found=False)
            assert (in_vain[0], in_vain[-1]) == (0, 0.001)
            far.send(b"!")
            assert [waited(selector, found=True) for _ in range(skipped)] == [[0.001]] * skipped
            near.recv(1)
        far.send(b"!")
        assert waited(selector, found=True) == [0]
        near.recv(1)
        waited(selector, found=False)
        assert waited(selector, found=False)[0] == 0


def test_without_an_expectation_nothing_is_looked_for(
    pair: tuple[socket.socket, socket.socket], waits: list[float | None]
) -> None:
    with KeenSelector() as selector:
        selector.register(pair[0], selectors.EVENT_READ)
        assert selector.select(0.001) == []
    assert waits == [0.001]


def test_a_loop_that_need_not_wait_does_not_look(waits: list[float | None]) -> None:
    async def turn() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, KeenLoop)
        waits.clear()
        loop.expect()
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=KeenLoop) as runner:
        runner.run(turn())
        assert waits[0] == 0
