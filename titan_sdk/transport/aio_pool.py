"""Kept connections for the asyncio client; belongs to one event loop at a time."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from titan_sdk.config import ClientConfig
from titan_sdk.transport.aio import AsyncConnection
from titan_sdk.transport.pool import IDLE_SECONDS, MAX_IDLE
from titan_sdk.transport.sync import Greeting
from titan_sdk.wire.frames import Frame, encode_frame

__all__ = ["AsyncPool"]


class AsyncPool:
    """As ``Pool``, for any number of tasks. A cancelled exchange closes its own connection only."""

    def __init__(self, config: ClientConfig, greeting: Greeting) -> None:
        self._config = config
        self._greeting = greeting
        self._idle: deque[tuple[float, AsyncConnection]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def exchange(self, operation: str, opcode: int, payload: bytes) -> Frame:
        """As ``aio.exchange``, over a kept connection if one is idle."""
        request = encode_frame(opcode, payload)
        connection = self._take()
        try:
            if connection is not None:
                (frame,) = await connection.talk(operation, request)
            else:
                connection = await AsyncConnection.open(self._config, operation)
                hello, frame = await connection.talk(operation, self._greeting[0] + request, replies=2)
                self._greeting[1](hello)
        except BaseException:
            if connection is not None:
                connection.abort()
            raise
        self._give_back(connection)
        return frame

    async def close(self) -> None:
        """Close idle connections and wait for that. The pool may be used again."""
        idle, self._idle = self._idle, deque()
        for _, connection in idle:
            connection.begin_close()  # all of them: this may be cancelled while it waits for one
        for _, connection in idle:
            await connection.close()

    def _take(self) -> AsyncConnection | None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Connections of another loop cannot be used on this one; that loop's end closed them.
            self._idle, self._loop = deque(), loop
        while self._idle:
            since, connection = self._idle.pop()
            if time.monotonic() - since < IDLE_SECONDS and connection.is_usable():
                return connection
            connection.abort()
        return None

    def _give_back(self, connection: AsyncConnection) -> None:
        if len(self._idle) < MAX_IDLE and asyncio.get_running_loop() is self._loop:
            self._idle.append((time.monotonic(), connection))
        else:
            connection.abort()
