"""What every part of a client needs: its configuration, its memory, and a driver that runs flows."""

from __future__ import annotations

import os
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from titan_sdk.config import ClientConfig
from titan_sdk.dashboard import report_submission
from titan_sdk.drivers import AsyncDriver, Driver
from titan_sdk.flows.core import Flow
from titan_sdk.session import Session
from titan_sdk.wire.calls import Call

__all__ = ["AsyncClientBase", "ClientBase"]

T = TypeVar("T")


class ClientBase:
    """Opens, closes and runs flows on the calling thread."""

    def __init__(
        self, host: str | None = None, port: int | None = None, *, config: ClientConfig | None = None
    ) -> None:
        self.config = ClientConfig.choose(config, host, port, os.environ)
        self._session = Session(self.config)
        if self.config.dashboard_url:
            self._session.on_submitted = partial(report_submission, self.config.dashboard_url)
        self._driver = Driver(self._session)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections kept for reuse. Idempotent; the client may be used again."""
        self._driver.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.config.address}>"

    def _run(self, flow: Flow[T]) -> T:
        return self._driver.run(flow)

    def _ask(self, call: Call[T]) -> T:
        # As a flow of one step, without the flow: what is polled thousands of times goes this way.
        return self._driver.ask(call)


class AsyncClientBase:
    """Opens, closes and runs flows on the running event loop."""

    def __init__(
        self, host: str | None = None, port: int | None = None, *, config: ClientConfig | None = None
    ) -> None:
        self.config = ClientConfig.choose(config, host, port, os.environ)
        self._session = Session(self.config)
        if self.config.dashboard_url:
            self._session.on_submitted = partial(report_submission, self.config.dashboard_url)
        self._driver = AsyncDriver(self._session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections kept for reuse. Idempotent; the client may be used again."""
        await self._driver.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.config.address}>"

    async def _run(self, flow: Flow[T]) -> T:
        return await self._driver.run(flow)

    async def _ask(self, call: Call[T]) -> T:
        return await self._driver.ask(call)
