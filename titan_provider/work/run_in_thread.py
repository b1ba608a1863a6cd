"""An event loop that no signal handler can break into.

Airflow ends a task that has run too long by an exception that a signal handler raises wherever the main thread is. In
an event loop that may be inside a callback, or a step of some background task: asyncio keeps the exception there, and
the task waits for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from threading import Lock, Thread
from typing import Generic, TypeVar

__all__ = ["run_in_thread"]

LOOK_SECONDS = 1.0
"""A signal that comes just before the main thread sleeps does not wake it; its handler runs at the next look."""

T = TypeVar("T")


def run_in_thread(work: Coroutine[None, None, T]) -> T:
    """The coroutine's result, as of ``asyncio.run``, with the loop in a thread of its own.

    An exception that a signal handler raises meanwhile cancels the coroutine, and is raised here once that has ended;
    a second one does not wait for that.
    """
    run = _Run(work)
    # Not an executor: interrupted while it starts its thread, it forgets that there is one. A daemon, as a thread
    # whose start was interrupted may never come as far as its target.
    thread = Thread(target=contextvars.copy_context().run, args=(run.body,), name="titan-wait", daemon=True)
    try:
        thread.start()
        run.wait()
    except BaseException:
        run.give_up()
        raise
    return run.outcome.result()


class _Run(Generic[T]):
    """What the two threads share.

    No Future, Condition or Event of which both take hold: a handler that raises as the main thread enters one leaves
    its lock taken, and the other thread would wait for it for ever. A bare lock and flags have no such moment.
    """

    def __init__(self, work: Coroutine[None, None, T]) -> None:
        self.outcome: Future[T] = Future()
        self._work = work
        self._cancel: Callable[[], object] | None = None
        self._begun = self._given_up = self._over = False
        self._gate = Lock()
        self._gate.acquire()

    def body(self) -> None:
        """What the loop's thread does."""
        self._begun = True
        if self._given_up:  # the other side has closed the coroutine, or it saw a beginning and waits
            self._work.close()
            self._over = True
            self._gate.release()
            return
        try:
            self.outcome.set_result(asyncio.run(self._main()))
        except BaseException as exc:  # noqa: BLE001 - it is raised where the result is wanted
            self.outcome.set_exception(exc)
        self._over = True
        self._gate.release()

    async def _main(self) -> T:
        task = asyncio.ensure_future(self._work)
        self._cancel = partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)
        if self._given_up:  # before there was a task to cancel
            task.cancel()
        return await task

    def wait(self) -> None:
        """Until the coroutine has ended."""
        while not self._over:
            self._gate.acquire(timeout=LOOK_SECONDS)

    def give_up(self) -> None:
        """Cancel the coroutine, and wait until it has ended."""
        self._given_up = True
        if not self._begun:
            self._work.close()
            return
        if self._cancel is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it is over
                self._cancel()
        self.wait()
