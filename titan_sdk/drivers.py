# Made from async_drivers.py by `make unasync`: edit that file, not this one.
"""The driver of flows behind ``TitanClient``: it carries out the steps of a flow over a transport.

The retry rule is in ``retry.py``.
"""

from __future__ import annotations

import time
from typing import TypeVar

from titan_sdk.errors import ConnectFailed, ConnectionLost, TimedOut
from titan_sdk.flows.core import STEP_ERRORS, Ask, Blocking, Flow, FlowRun, Now, Pause, Step
from titan_sdk.retry import Attempts, greeting_of
from titan_sdk.session import Session
from titan_sdk.transport import sync
from titan_sdk.transport.pool import Pool
from titan_sdk.wire import calls
from titan_sdk.wire.calls import Call
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["Driver"]

T = TypeVar("T")


class Driver:
    """Runs flows on the calling thread; any number of threads at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._config = session.config
        self._hello, self._greeting = greeting_of(session.config)
        self._pool = Pool(session.config, self._greeting)

    def close(self) -> None:
        """Close the connections that are kept for reuse."""
        self._pool.close()

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        try:
            run = FlowRun(flow)
            while run.step is not None:
                try:
                    outcome = self._do(run.step)
                except STEP_ERRORS as exc:
                    run.fail(exc)
                else:
                    run.answer(outcome)
            return run.result
        finally:
            flow.close()

    def _do(self, step: Step) -> object:
        match step:
            case Ask(call):
                return self.ask(call)
            case Pause(seconds):
                time.sleep(seconds)
                return None
            case Now():
                return time.monotonic()
            case Blocking(function):
                return function()

    def ask(self, call: Call[T]) -> T:
        """One call, as a step of a flow makes it."""
        attempts = Attempts(self._session, call)
        try:
            while True:
                try:
                    if attempts.must_greet:
                        self._greet()
                    frame = self._exchange(call, *attempts.next())
                except (ConnectFailed, ConnectionLost, TimedOut) as exc:
                    time.sleep(attempts.pause_after(exc))
                else:
                    return attempts.read(frame)
        finally:
            attempts.close()

    def _greet(self) -> None:
        greeting = self._hello
        frame = sync.exchange(self._config, greeting.name, greeting.opcode, greeting.encoded())
        self._session.server = greeting.read(frame)

    def _exchange(self, call: Call[T], opcode: int, payload: bytes) -> Frame:
        if self._session.keeps_connections:
            return self._pool.exchange(call.name, opcode, payload)
        is_hello = call.opcode is Opcode.HELLO
        greeting = self._greeting if self._session.greets_anew and not is_hello else None
        frame = sync.exchange(self._config, call.name, opcode, payload, greeting)
        if greeting is None and not is_hello and calls.is_refusal(frame):
            # A stored text or a log may look like a refusal. HELLO raises if the master really refused.
            self._greet()
        return frame
