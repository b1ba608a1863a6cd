"""A run as the front's engine sees it."""

from __future__ import annotations

import asyncio
import collections
import logging
from dataclasses import dataclass, field

from titan_sdk.cluster.engines.base import Placed, Process, RunRequest, RunResult
from titan_sdk.cluster.engines.endings import ending
from titan_sdk.cluster.engines.ray.values import Finished, News, Spec
from titan_sdk.cluster.log_store import LogStore
from titan_sdk.cluster.scheduler import Outcome
from titan_sdk.cluster.store.base import StoreFailed

__all__ = ["Run", "result_of"]

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0


@dataclass(slots=True)
class Run:
    process: Process
    over: asyncio.Future[RunResult]
    """Set when nothing of it is left."""
    on_placed: Placed | None = None
    taken_over: bool = False
    """An earlier master started it."""
    spec: Spec | None = None
    archive: bytes | None = None
    """Content of the archive that it needs, until it has begun."""
    placed: bool = False
    busy: bool = False
    """Output is being stored; what comes meanwhile waits in the inbox."""
    inbox: collections.deque[News] = field(default_factory=collections.deque)
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def request(self) -> RunRequest:
        return self.process.request

    @property
    def epoch(self) -> str:
        """The dispatcher it belongs to."""
        return self.process.handle

    @property
    def killed(self) -> bool:
        return self.process.killed

    async def store(self, logs: LogStore, offset: int, data: bytes) -> int:
        """Append output to the job's log, however long that takes; how much has arrived in all."""
        while True:
            try:
                return await logs.append(self.request.job_id, self.request.run, offset, data)
            except (OSError, StoreFailed) as exc:
                log.warning("the output of %s cannot be stored yet: %s", self.request.job_id, exc)
                await asyncio.sleep(_AGAIN_SECONDS)


def result_of(finished: Finished, *, killed: bool) -> RunResult:
    """What a node said of a run's end, as the scheduler wants it."""
    if finished.refused is not None:
        return RunResult(Outcome.FATAL, None, finished.refused)
    if finished.lost is not None and not killed:
        return RunResult(Outcome.FAILURE, None, finished.lost)
    return ending(finished.code, killed=killed or finished.killed)
