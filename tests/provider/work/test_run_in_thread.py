"""A signal handler's exception ends the wait, wherever the event loop is at that moment."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest
from pytest_mock import MockerFixture

from titan_provider.work.run_in_thread import run_in_thread

# Slow: Threads meet thousands of times.
pytestmark = pytest.mark.slow


class TooLong(BaseException):
    """As Airflow's own timeout, no ``Exception``."""


@pytest.fixture
def alarm() -> Iterator[None]:
    def handler(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


def ring() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


async def give(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def fail() -> None:
    raise KeyError("no such thing")


def test_the_result_is_the_coroutines() -> None:
    assert run_in_thread(give(7)) == 7


def test_so_is_its_exception() -> None:
    with pytest.raises(KeyError, match="no such thing"):
        run_in_thread(fail())


@pytest.mark.parametrize("where", ["callback", "background", "self"])
@pytest.mark.usefixtures("alarm")
def test_an_exception_of_a_signal_handler_ends_it_wherever_the_loop_is(where: str) -> None:
    ended: list[str] = []

    async def background() -> None:
        ring()

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        try:
            if where == "callback":
                loop.call_soon(ring)
            elif where == "self":
                ring()
            kept = loop.create_task(background()) if where == "background" else None
            await asyncio.Event().wait()
            del kept
        except asyncio.CancelledError:
            ended.append(threading.current_thread().name)
            raise

    with pytest.raises(TooLong):
        run_in_thread(wait())
    assert len(ended) == 1
    assert ended[0].startswith("titan-wait")


@pytest.mark.usefixtures("alarm")
def test_it_ends_however_the_threads_meet() -> None:
    """A thousand times: the moments at which the exception once left a lock taken are microseconds long."""

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(ring)
        await asyncio.Event().wait()

    for _ in range(1000):
        with pytest.raises(TooLong):
            run_in_thread(wait())


@pytest.mark.usefixtures("alarm")
def test_an_exception_as_its_thread_starts_leaves_nothing_running(mocker: MockerFixture) -> None:
    """The thread that was to be started starts later all the same."""
    late: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        late.append(thread)
        ring()

    begun: list[str] = []

    async def work() -> None:
        begun.append("it ran")

    mocker.patch.object(threading.Thread, "start", start)
    with pytest.raises(TooLong):
        run_in_thread(work())
    mocker.stopall()
    late[0].start()
    late[0].join()
    assert not begun
