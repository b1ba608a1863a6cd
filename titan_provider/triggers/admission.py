"""The trigger of a task that waits for a place in the admission window, its job not submitted yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from titan_provider.events import JobEvent, Outcome
from titan_provider.hooks.titan import TitanHook
from titan_provider.triggers.base import TitanTrigger
from titan_provider.triggers.compat import TriggerEvent
from titan_provider.triggers.shared_client import shared_client
from titan_provider.work.admission import AdmissionQueue, Window, wait_for_room
from titan_sdk import JobStatus

__all__ = ["TitanAdmissionTrigger"]

_LOOK_AGAIN = 2.0


class TitanAdmissionTrigger(TitanTrigger):
    """Fires once, when the job may be submitted. However many wait in a process, one of them asks for all.

    :param job_id: id of the job to be
    :param tag: the window's tag
    :param limit: unfinished jobs that it holds
    :param since: unix time at which the task began; handed on in the event
    :param deadline: unix time at which waiting ends
    """

    def __init__(
        self,
        titan_conn_id: str,
        job_id: str,
        tag: str,
        limit: int,
        since: float,
        deadline: float | None = None,
        unreachable_timeout: float = 300.0,
    ) -> None:
        super().__init__()
        self.titan_conn_id = titan_conn_id
        self.job_id = job_id
        self.tag = tag
        self.limit = limit
        self.since = since
        self.deadline = deadline
        self.unreachable_timeout = unreachable_timeout

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event when there is room, or when waiting for it is over."""
        event = await self._wait()
        yield TriggerEvent(event.to_dict())  # type: ignore[no-untyped-call]

    async def _wait(self) -> JobEvent:
        window = Window(self.tag, self.limit)
        self.log.info("Job %s is held back: %s", self.job_id, window.why_closed())
        outcome, message = await self.outcome_of(self._enter(window), f"a place for job {self.job_id!r}")
        return JobEvent(outcome, {self.job_id: JobStatus.UNKNOWN}, message=message, since=self.since)

    async def _enter(self, window: Window) -> tuple[Outcome, str]:
        config = await TitanHook(self.titan_conn_id).get_async_config()
        try:
            async with asyncio.timeout(self.seconds_left(self.deadline)), shared_client(config) as master:
                queue = master.queues.setdefault(window.key, AdmissionQueue())
                await wait_for_room(master, window, self.job_id, queue, self.unreachable_timeout)
        except TimeoutError:
            why = f"execution_timeout was over before job {self.job_id!r} could be submitted: {window.why_closed()}"
            return Outcome.TIMED_OUT, why
        return Outcome.ADMITTED, ""
