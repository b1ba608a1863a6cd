"""Drivers: the two short loops that run flows over a transport, behind ``TitanClient`` and ``AsyncTitanClient``, with one retry rule for both."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TypeVar

from titan_sdk.config import ClientConfig
from titan_sdk.errors import ConnectFailed, ConnectionLost, PayloadTooLarge, TitanError
from titan_sdk.flows.core import Ask, Blocking, Flow, Now, Pause, Step
from titan_sdk.transport import aio, sync
from titan_sdk.wire.calls import Call
from titan_sdk.wire.frames import MAX_PAYLOAD

__all__ = ["drive", "drive_async"]

T = TypeVar("T")


def drive(flow: Flow[T], config: ClientConfig) -> T:
    """Run a flow to its end on this thread."""
    outcome: object = None
    error: BaseException | None = None
    while True:
        try:
            step = flow.throw(error) if error is not None else flow.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # StopIteration.value is the flow's T
        outcome, error = None, None
        try:
            outcome = _do(step, config)
        except (TitanError, OSError, ValueError) as exc:
            error = exc


def _do(step: Step, config: ClientConfig) -> object:
    match step:
        case Ask(call):
            return _ask(call, config)
        case Pause(seconds):
            time.sleep(seconds)
            return None
        case Now():
            return time.monotonic()
        case Blocking(function):
            return function()


def _ask(call: Call[T], config: ClientConfig) -> T:
    payload = _encoded(call)
    tries = 1
    while True:
        try:
            frame = sync.exchange(config, call.name, call.opcode, payload)
        except (ConnectFailed, ConnectionLost) as exc:
            if not may_repeat(call, exc, tries, config):
                raise
            time.sleep(retry_pause(tries, config))
            tries += 1
        else:
            return call.read(frame)


async def drive_async(flow: Flow[T], config: ClientConfig) -> T:
    """Run a flow to its end on the running event loop; cancelling ends the flow at its current step."""
    outcome: object = None
    error: BaseException | None = None
    try:
        while True:
            try:
                step = flow.throw(error) if error is not None else flow.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # StopIteration.value is the flow's T
            outcome, error = None, None
            try:
                outcome = await _do_async(step, config)
            except (TitanError, OSError, ValueError) as exc:
                error = exc
    finally:
        flow.close()


async def _do_async(step: Step, config: ClientConfig) -> object:
    match step:
        case Ask(call):
            return await _ask_async(call, config)
        case Pause(seconds):
            await asyncio.sleep(seconds)
            return None
        case Now():
            return time.monotonic()
        case Blocking(function):
            return await asyncio.to_thread(function)


async def _ask_async(call: Call[T], config: ClientConfig) -> T:
    payload = _encoded(call)
    tries = 1
    while True:
        try:
            frame = await aio.exchange(config, call.name, call.opcode, payload)
        except (ConnectFailed, ConnectionLost) as exc:
            if not may_repeat(call, exc, tries, config):
                raise
            await asyncio.sleep(retry_pause(tries, config))
            tries += 1
        else:
            return call.read(frame)


def _encoded(call: Call[T]) -> bytes:
    payload = call.encoded()
    if len(payload) > MAX_PAYLOAD:
        raise PayloadTooLarge(call.name, len(payload), MAX_PAYLOAD, call.advice)
    return payload


def may_repeat(call: Call[T], exc: TitanError, tries: int, config: ClientConfig) -> bool:
    """Whether sending the call again is safe and still wanted. A submit whose reply was lost is never repeated."""
    if tries >= config.retry.attempts:
        return False
    return isinstance(exc, ConnectFailed) or call.idempotent


def retry_pause(tries: int, config: ClientConfig) -> float:
    """Seconds before the next try: doubling, with jitter so that many clients do not return at once."""
    return config.retry.first_pause * float(2 ** (tries - 1)) * random.uniform(0.5, 1.0)
