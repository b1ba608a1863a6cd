"""A run in the front's engine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from titan_sdk.cluster.engines.base import Placed, Process, RunRequest, RunResult
from titan_sdk.cluster.engines.ray.values import Order
from titan_sdk.cluster.logs import LogStore

__all__ = ["FrontRun"]


@dataclass(eq=False, slots=True)
class FrontRun:
    process: Process
    over: asyncio.Future[RunResult]
    """Set when no process of it is left."""
    order: Order | None = None
    """``None``: an earlier master started it."""
    archive: bytes = b""
    """The content of its archive, until it has begun."""
    on_placed: Placed | None = None
    cleared: bool = False
    """Whether the run may be started."""
    ending: bool = False
    node: str | None = None
    """The node where it began."""
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def request(self) -> RunRequest:
        return self.process.request

    def begin(self, node: str) -> None:
        """The run has begun on the node."""
        if self.node is None and not self.over.done():
            self.node, self.archive = node, b""
            if self.on_placed is not None:
                self.on_placed(node)

    def finish(self, result: RunResult) -> None:
        """The run has ended, and no process of it is left."""
        if not self.over.done():
            self.over.set_result(result)

    async def store(self, logs: LogStore, offset: int, data: bytes) -> int:
        """Append output to the job's log. Returns how much of this run's output has arrived.

        Raises:
            OSError, StoreFailed: nothing was appended.
        """
        return await logs.append(self.request.job_id, self.request.run, offset, data)
