"""The driver of flows behind ``AsyncTitanClient``: it carries out the steps of a flow over a transport.

The retry rule is in ``retry.py``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

from titan_sdk.errors import ConnectFailed, ConnectionLost, TimedOut
from titan_sdk.flows.core import STEP_ERRORS, Ask, Blocking, Flow, FlowRun, Now, Pause, Step
from titan_sdk.retry import Attempts, greeting_of
from titan_sdk.session import Session
from titan_sdk.transport import aio
from titan_sdk.transport.aio_pool import AsyncPool
from titan_sdk.wire import calls
from titan_sdk.wire.calls import Call
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["AsyncDriver"]

T = TypeVar("T")


class AsyncDriver:
    """Runs flows on the running event loop; any number of tasks at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._config = session.config
        self._hello, self._greeting = greeting_of(session.config)
        self._pool = AsyncPool(session.config, self._greeting)

    async def close(self) -> None:
        """Close the connections that are kept for reuse."""
        await self._pool.close()

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end; cancelling ends it at its current step."""
        try:
            run = FlowRun(flow)
            while run.step is not None:
                try:
                    outcome = await self._do(run.step)
                except STEP_ERRORS as exc:
                    run.fail(exc)
                else:
                    run.answer(outcome)
            return run.result
        finally:
            flow.close()

    async def _do(self, step: Step) -> object:
        match step:
            case Ask(call):
                return await self.ask(call)
            case Pause(seconds):
                await asyncio.sleep(seconds)
                return None
            case Now():
                return time.monotonic()
            case Blocking(function):
                return await asyncio.to_thread(function)

    async def ask(self, call: Call[T]) -> T:
        """One call, as a step of a flow makes it."""
        attempts = Attempts(self._session, call)
        try:
            while True:
                try:
                    if attempts.must_greet:
                        await self._greet()
                    frame = await self._exchange(call, *attempts.next())
                except (ConnectFailed, ConnectionLost, TimedOut) as exc:
                    await asyncio.sleep(attempts.pause_after(exc))
                else:
                    return attempts.read(frame)
        finally:
            attempts.close()

    async def _greet(self) -> None:
        greeting = self._hello
        frame = await aio.exchange(self._config, greeting.name, greeting.opcode, greeting.encoded())
        self._session.server = greeting.read(frame)

    async def _exchange(self, call: Call[T], opcode: int, payload: bytes) -> Frame:
        if self._session.keeps_connections:
            return await self._pool.exchange(call.name, opcode, payload)
        is_hello = call.opcode is Opcode.HELLO
        greeting = self._greeting if self._session.greets_anew and not is_hello else None
        frame = await aio.exchange(self._config, call.name, opcode, payload, greeting)
        if greeting is None and not is_hello and calls.is_refusal(frame):
            # A stored text or a log may look like a refusal. HELLO raises if the master really refused.
            await self._greet()
        return frame
