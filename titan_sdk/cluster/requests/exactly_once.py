"""ONCE: a request is carried out once, however often it arrives, by this master or the next one.

A change of TitanStore is remembered in its own transaction. Any other request is noted before it begins, and its reply at
its end. A copy waits for that reply. If the master died in between, a copy is told that the outcome is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from titan_sdk.cluster.requests.titanstore import change_of, reply_to
from titan_sdk.cluster.store.changes import OUT_OF_DATE, Begin, Once, Remember
from titan_sdk.cluster.store.journal import Journal
from titan_sdk.wire import exactly_once
from titan_sdk.wire.exactly_once import RequestId
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["Answer", "ExactlyOnce"]

_NOTED = frozenset(
    {
        *(Opcode.UPLOAD_ASSET, Opcode.DEPLOY_SCRIPT, Opcode.ASSET_WRITE, Opcode.ASSET_DELETE),
        *(Opcode.CANCEL_JOB, Opcode.STOP),
    }
)
_IN_DOUBT = f"{exactly_once.IN_DOUBT}the request had begun when the master was killed; check whether it was carried out"

Answer = Callable[[Frame], Awaitable[str | bytes]]
"""Carries out a request."""


class ExactlyOnce:
    """Answers ONCE. ``answer`` carries out the request inside."""

    def __init__(self, writes: Journal, answer: Answer) -> None:
        self._writes = writes
        self._answer = answer
        self._running: dict[RequestId, asyncio.Future[str | bytes]] = {}

    async def answer(self, payload: bytes) -> str | bytes:
        """The reply to the request inside.

        Raises:
            PeerProtocolError, StoreFailed: it was not carried out.
        """
        request, frame = exactly_once.decode(payload)
        change = change_of(frame.opcode, frame.payload)
        if change is not None:
            stored = self._writes.write(Once(request, change))
            self._writes.commit()
            result = await stored
            return exactly_once.OUT_OF_DATE if result == OUT_OF_DATE else reply_to(frame.opcode, result)
        if frame.opcode not in _NOTED:
            return f"ERROR: ONCE: a request with opcode {frame.opcode} takes no id; send it as it is"
        running = self._running.get(request)
        if running is None:
            running = self._running[request] = asyncio.ensure_future(self._carry_out(request, frame))
            running.add_done_callback(lambda _: self._running.pop(request, None))
        return await asyncio.shield(running)

    async def _carry_out(self, request: RequestId, frame: Frame) -> str | bytes:
        known = await self._writes.write(Begin(request))
        if known == OUT_OF_DATE:
            return exactly_once.OUT_OF_DATE
        if isinstance(known, str):
            return known or _IN_DOUBT
        reply = await self._answer(frame)
        await self._writes.write(Remember(request, reply if isinstance(reply, str) else ""))
        return reply
