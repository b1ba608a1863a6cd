"""Drivers: the two short loops that run flows over a transport, behind ``TitanClient`` and ``AsyncTitanClient``,
with one retry rule for both.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TypeVar

from titan_sdk.config import ClientConfig
from titan_sdk.errors import ConnectFailed, ConnectionLost, PayloadTooLarge, TitanError, TLSFailed
from titan_sdk.flows.core import STEP_ERRORS, Ask, Blocking, Flow, Now, Pause, Run, Step
from titan_sdk.model.stats import ServerInfo
from titan_sdk.session import Session
from titan_sdk.transport import aio, sync
from titan_sdk.transport.aio_pool import AsyncPool
from titan_sdk.transport.pool import Pool
from titan_sdk.wire import calls, hello
from titan_sdk.wire.calls import Call
from titan_sdk.wire.frames import MAX_PAYLOAD, Frame, encode_frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["AsyncDriver", "Driver", "may_repeat", "retry_pause"]

T = TypeVar("T")


class Driver:
    """Runs flows on the calling thread; any number of threads at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._config = session.config
        self._hello, self._greeting = _greeting(session.config)
        self._pool = Pool(session.config, self._greeting)

    def close(self) -> None:
        """Close kept connections."""
        self._pool.close()

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end."""
        run = Run(flow)
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
        if _must_greet(self._session, call):
            self._session.server = self._ask(self._hello)
        return self._ask(call)

    def _ask(self, call: Call[T]) -> T:
        payload = _encoded(call)
        tries = 1
        while True:
            try:
                frame = self._exchange(call, payload)
            except (ConnectFailed, ConnectionLost) as exc:
                self._session.forget_server(exc)
                if not may_repeat(call, exc, tries, self._config):
                    raise
                time.sleep(retry_pause(tries, self._config))
                tries += 1
            else:
                return call.read(frame)

    def _exchange(self, call: Call[T], payload: bytes) -> Frame:
        if _keeps_connections(self._session):
            return self._pool.exchange(call.name, call.opcode, payload)
        greeting = self._greeting if _greets_anew(self._session, call) else None
        frame = sync.exchange(self._config, call.name, call.opcode, payload, greeting)
        if greeting is None and call.opcode is not Opcode.HELLO and calls.is_refusal(frame):
            # Stored text or a log may look the same: HELLO tells, by raising, whether the master refused.
            self._session.server = self._ask(self._hello)
        return frame


class AsyncDriver:
    """Runs flows on the running event loop; any number of tasks at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._config = session.config
        self._hello, self._greeting = _greeting(session.config)
        self._pool = AsyncPool(session.config, self._greeting)

    async def close(self) -> None:
        """Close kept connections."""
        await self._pool.close()

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end; cancelling ends it at its current step."""
        try:
            run = Run(flow)
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
        if _must_greet(self._session, call):
            self._session.server = await self._ask(self._hello)
        return await self._ask(call)

    async def _ask(self, call: Call[T]) -> T:
        payload = _encoded(call)
        tries = 1
        while True:
            try:
                frame = await self._exchange(call, payload)
            except (ConnectFailed, ConnectionLost) as exc:
                self._session.forget_server(exc)
                if not may_repeat(call, exc, tries, self._config):
                    raise
                await asyncio.sleep(retry_pause(tries, self._config))
                tries += 1
            else:
                return call.read(frame)

    async def _exchange(self, call: Call[T], payload: bytes) -> Frame:
        if _keeps_connections(self._session):
            return await self._pool.exchange(call.name, call.opcode, payload)
        greeting = self._greeting if _greets_anew(self._session, call) else None
        frame = await aio.exchange(self._config, call.name, call.opcode, payload, greeting)
        if greeting is None and call.opcode is not Opcode.HELLO and calls.is_refusal(frame):
            # Stored text or a log may look the same: HELLO tells, by raising, whether the master refused.
            self._session.server = await self._ask(self._hello)
        return frame


def _must_greet(session: Session, call: Call[T]) -> bool:
    """Ask who the master is before the first call of a client: one exchange that may save all the others' connects."""
    if session.server is not None or call.opcode is Opcode.HELLO:
        return False
    return session.config.keep_alive or session.config.auth_token is not None


def _keeps_connections(session: Session) -> bool:
    return session.server is not None and session.config.keep_alive and session.server.has("keep_alive")


def _greets_anew(session: Session, call: Call[T]) -> bool:
    """Whether every connection has to show the token; a real master, which knows none, would answer nothing else."""
    if session.config.auth_token is None or call.opcode is Opcode.HELLO:
        return False
    return session.server is not None and session.server.kind == "bundled"


def _greeting(config: ClientConfig) -> tuple[Call[ServerInfo], sync.Greeting]:
    call = calls.server_info(config.auth_token)
    return call, (encode_frame(call.opcode, call.encoded()), lambda frame: hello.check_reply(frame.text))


def _encoded(call: Call[T]) -> bytes:
    payload = call.encoded()
    if len(payload) > MAX_PAYLOAD:
        raise PayloadTooLarge(call.name, len(payload), MAX_PAYLOAD, call.advice)
    return payload


def may_repeat(call: Call[T], exc: TitanError, tries: int, config: ClientConfig) -> bool:
    """Whether sending the call again is safe and still wanted. A submit whose reply was lost is never repeated."""
    if tries >= config.retry.attempts or isinstance(exc, TLSFailed):
        return False
    return isinstance(exc, ConnectFailed) or call.idempotent


def retry_pause(tries: int, config: ClientConfig) -> float:
    """Seconds before the next try: doubling, with jitter so that many clients do not return at once."""
    return config.retry.first_pause * float(2 ** (tries - 1)) * random.uniform(0.5, 1.0)
