"""AsyncTitanClient behind blocking calls: whatever is awaitable is awaited, whatever streams is a list."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

from titan_sdk import AsyncDagHandle, AsyncJobHandle, AsyncTitanClient


class Blocking:
    """Wraps an object of the async API; results of its own kind are wrapped again."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._call(value) if inspect.ismethod(value) else self._wrapped(value)

    def __getitem__(self, key: str) -> Any:
        return self._wrapped(self._inner[key])

    def _call(self, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            outcome = method(*args, **kwargs)
            if inspect.isasyncgen(outcome):
                return self._loop.run_until_complete(_collect(outcome))
            if inspect.isawaitable(outcome):
                outcome = self._loop.run_until_complete(_awaited(outcome))
            return self._wrapped(outcome)

        return call

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, AsyncJobHandle | AsyncDagHandle):
            return Blocking(value, self._loop)
        if isinstance(value, tuple) and value and isinstance(value[0], AsyncJobHandle):
            return tuple(self._wrapped(item) for item in value)
        return value


class BlockingAsyncClient(Blocking):
    """An AsyncTitanClient with an event loop of its own."""

    def __init__(self, host: str | None = None, port: int | None = None, **options: Any) -> None:
        super().__init__(AsyncTitanClient(host, port, **options), asyncio.new_event_loop())

    def __enter__(self) -> BlockingAsyncClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._inner.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def _collect(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]
