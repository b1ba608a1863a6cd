"""An event loop that no signal handler can break into.

Airflow ends a task that has run too long by an exception that a signal handler raises wherever the main thread is. In
an event loop that may be inside a callback, or a step of some background task: asyncio keeps the exception there, and
the task waits for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from threading import Event, Thread
from typing import TypeVar

__all__ = ["run_apart"]

T = TypeVar("T")


def run_apart(work: Coroutine[None, None, T]) -> T:
    """The coroutine's result, as of ``asyncio.run``, with the loop in a thread of its own.

    An exception that a signal handler raises meanwhile cancels the coroutine, and is raised here once that has ended.
    """
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()
    ended: Future[T] = Future()
    given_up = Event()

    async def main() -> T:
        task = asyncio.ensure_future(work)
        begun.set_result((asyncio.get_running_loop(), task))
        if given_up.is_set():  # before there was a task to cancel
            task.cancel()
        return await task

    def body() -> None:
        try:
            ended.set_result(asyncio.run(main()))
        except BaseException as exc:  # noqa: BLE001 - it is raised where the result is wanted
            ended.set_exception(exc)

    # Not an executor: interrupted while it starts its thread, it forgets that there is one.
    thread = Thread(target=contextvars.copy_context().run, args=(body,), name="titan-wait")
    try:
        thread.start()
        return ended.result()
    except BaseException:
        given_up.set()
        if begun.done():
            loop, task = begun.result()
            with contextlib.suppress(RuntimeError):  # the loop is closed: it is over
                loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        if thread.ident is not None:
            wait([ended])
