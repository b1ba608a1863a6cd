"""Brings a run's output to the front while the run goes on, and tells the dispatcher that it has begun."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import suppress

from titan_sdk.cluster.engines.ports import answers_here
from titan_sdk.cluster.engines.ray.inside.node.front_connection import FrontConnection
from titan_sdk.cluster.engines.ray.stream import Stream
from titan_sdk.cluster.engines.ray.values import NOT_KNOWN
from titan_sdk.errors import PeerProtocolError

__all__ = ["Reporter"]

_TURN = 0.25
"""Seconds; a job that ends in its first turn is told of by its end alone."""
_PIECE = 512 * 1024
_INLINE = 64 * 1024
"""Output that travels with the end."""
_AGAIN_SECONDS = 1.0
_REPLY_SECONDS = 20.0
_FINISH_SECONDS = 60.0
"""How long the output of an ended run waits for a front that nobody knows of."""


class Reporter:
    """The output is a file, so that a job never waits for the front.

    Args:
        output: the file, which is cut once it is longer than ``limit``.
    """

    def __init__(self, line: FrontConnection, run: str, node: str, output: int, limit: int) -> None:
        self._line, self._run, self._node = line, run, node
        self._file, self._limit = output, limit
        self._front: Stream | None = None
        self._sent, self._kept = 0, _INLINE
        self._over = asyncio.Event()
        self._work = asyncio.create_task(self._report())
        self.answers = False
        """Whether a service's port was seen to answer."""

    async def watch(self, port: int) -> None:
        """Tell the dispatcher when the port of a service answers."""
        await answers_here(port)
        self.answers = True
        await self._line.tell(self._run, self._node, True)

    async def finish(self, *, whole: bool) -> tuple[int, bytes]:
        """The process has ended: all but the last piece of its output is brought; offset and bytes of that piece.

        Args:
            whole: bring that, too, as what this run returns is lost.
        """
        self._kept = 0 if whole else _INLINE
        self._over.set()
        await self._work
        left = self._left
        return self._sent, os.pread(self._file, left, self._sent) if 0 < left <= _INLINE else b""

    async def _report(self) -> None:
        failing, is_told = 0.0, False
        while not await self._is_over() or self._left > self._kept:
            if not is_told:
                is_told = True
                await self._line.tell(self._run, self._node, self.answers)
            try:
                if self._left and not await self._bring():
                    break
                failing = 0.0
            except (OSError, PeerProtocolError, ValueError):
                self._hang_up()
                failing = failing or time.monotonic()
                if self._over.is_set() and time.monotonic() > failing + _FINISH_SECONDS:
                    break  # the end itself counts more than the last output
                await asyncio.sleep(_AGAIN_SECONDS)
        self._hang_up()

    async def _is_over(self) -> bool:
        """Waited for as long as a turn lasts."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_TURN):
                await self._over.wait()
        return self._over.is_set()

    @property
    def _left(self) -> int:
        """Bytes of output that have not been brought. A file over the limit is cut: the job appends, so the rest falls
        away.
        """
        size = os.fstat(self._file).st_size
        if size > self._limit + 1:
            os.ftruncate(self._file, self._limit + 1)
        return min(size, self._limit + 1) - self._sent

    async def _bring(self) -> bool:
        """A piece of the output; whether the front waits for this run."""
        if self._front is None:
            self._front = await self._line.connect()
        data = os.pread(self._file, min(self._left, _PIECE), self._sent)
        self._front.send("output", data, run=self._run, offset=self._sent)
        async with asyncio.timeout(_REPLY_SECONDS):
            reply = await self._front.receive_frame()
        if reply.text.startswith(NOT_KNOWN):
            return False
        self._sent = json.loads(reply.payload)["received"]
        return True

    def _hang_up(self) -> None:
        if self._front is not None:
            self._front.close()
            self._front = None
