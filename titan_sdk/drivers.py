"""Drivers: the two short loops that run flows over a transport, behind ``TitanClient`` and ``AsyncTitanClient``.

One rule for both, in ``sending.py``, says what is repeated.
"""

from __future__ import annotations

import time
from typing import TypeVar

from titan_sdk.config import ClientConfig
from titan_sdk.errors import ConnectFailed, ConnectionLost, TimedOut
from titan_sdk.flows.core import STEP_ERRORS, Ask, Blocking, Flow, FlowRun, Now, Pause, Step
from titan_sdk.model.stats import ServerInfo
from titan_sdk.sending import Sending
from titan_sdk.session import Session
from titan_sdk.transport import sync
from titan_sdk.transport.pool import Pool
from titan_sdk.wire import calls, hello
from titan_sdk.wire.calls import Call
from titan_sdk.wire.frames import Frame, encode_frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["Driver", "greeting_of", "greets_anew", "keeps_connections"]

T = TypeVar("T")


class Driver:
    """Runs flows on the calling thread; any number of threads at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._config = session.config
        self._hello, self._greeting = greeting_of(session.config)
        self._pool = Pool(session.config, self._greeting)

    def close(self) -> None:
        """Close kept connections."""
        self._pool.close()

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        run = FlowRun(flow)
        while run.step is not None:
            try:
                outcome = self._do(run.step)
            except STEP_ERRORS as exc:
                run.fail(exc)
            else:
                run.answer(outcome)
        return run.result

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
        sending = Sending(self._session, call)
        try:
            while True:
                try:
                    if sending.must_greet:
                        self._greet()
                    frame = self._exchange(call, *sending.next())
                except (ConnectFailed, ConnectionLost, TimedOut) as exc:
                    time.sleep(sending.pause_after(exc))
                else:
                    return sending.read(frame)
        finally:
            sending.close()

    def _greet(self) -> None:
        greeting = self._hello
        frame = sync.exchange(self._config, greeting.name, greeting.opcode, greeting.encoded())
        self._session.server = greeting.read(frame)

    def _exchange(self, call: Call[T], opcode: int, payload: bytes) -> Frame:
        if keeps_connections(self._session):
            return self._pool.exchange(call.name, opcode, payload)
        greeting = self._greeting if greets_anew(self._session, call) else None
        frame = sync.exchange(self._config, call.name, opcode, payload, greeting)
        if greeting is None and call.opcode is not Opcode.HELLO and calls.is_refusal(frame):
            # Stored text or a log may look the same: HELLO tells, by raising, whether the master refused.
            self._greet()
        return frame


def keeps_connections(session: Session) -> bool:
    return (
        session.server is not None and session.config.keep_alive and "keep_alive" in session.server.features
    )


def greets_anew(session: Session, call: Call[T]) -> bool:
    """Whether every connection has to show the token; a real master, which knows none, would answer nothing else."""
    if session.config.auth_token is None or call.opcode is Opcode.HELLO:
        return False
    return session.server is not None and session.server.kind == "bundled"


def greeting_of(config: ClientConfig) -> tuple[Call[ServerInfo], sync.Greeting]:
    call = calls.server_info(config.auth_token)
    return call, (encode_frame(call.opcode, call.encoded()), lambda frame: hello.check_reply(frame.text))
