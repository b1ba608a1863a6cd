"""The trigger of deferred sensors: several jobs, no log, nothing to cancel. Rules: see ``triggers/base.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from titan_provider.events import JobEvent, Outcome
from titan_provider.hooks.titan import TitanHook
from titan_provider.triggers.base import TitanTrigger
from titan_provider.triggers.compat import TriggerEvent
from titan_provider.triggers.shared_client import SharedClient, shared_client
from titan_sdk import DagReport, JobReport, JobStatus, NotFound

__all__ = ["TitanJobsTrigger"]


class TitanJobsTrigger(TitanTrigger):
    """Fires once, when all jobs have ended or can never run.

    :param dag_name: name of a DAG submitted through the SDK; its latest run, unless ``run`` is given
    :param run: run id of that DAG
    :param job_ids: in place of a DAG, the jobs
    :param unreachable_timeout: seconds for which the master may be silent
    :param silent_fail: go on after an error, as a poking sensor of that name does
    :param since: unix time at which the task began to wait
    :param deadline: unix time at which it gives up
    """

    attribute_of: ClassVar[Mapping[str, str]] = {"run": "run_id"}

    def __init__(
        self,
        titan_conn_id: str,
        dag_name: str | None = None,
        run: str | None = None,
        job_ids: Sequence[str] = (),
        poll_interval: float = 5.0,
        unreachable_timeout: float = 300.0,
        silent_fail: bool = False,
        since: float = 0.0,
        deadline: float | None = None,
    ) -> None:
        super().__init__()
        self.titan_conn_id = titan_conn_id
        self.dag_name = dag_name
        self.run_id = run
        self.job_ids = list(job_ids)
        self.poll_interval = poll_interval
        self.unreachable_timeout = unreachable_timeout
        self.silent_fail = silent_fail
        self.since = since
        self.deadline = deadline

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event when nothing more can happen to the jobs, or when waiting for them is over."""
        try:
            async with asyncio.timeout(self.seconds_left(self.deadline)):
                event = await self._watch()
                while self.silent_fail and event.outcome is not Outcome.ENDED:
                    await asyncio.sleep(self.poll_interval)
                    event = await self._watch()
        except TimeoutError:
            event = JobEvent(
                Outcome.TIMED_OUT, {}, message="the sensor's timeout was over before the work was"
            )
        yield TriggerEvent(replace(event, since=self.since).to_dict())  # type: ignore[no-untyped-call]

    async def _watch(self) -> JobEvent:
        statuses: dict[str, JobStatus] = {}

        async def wait() -> tuple[Outcome, str]:
            config = await TitanHook(self.titan_conn_id).get_async_config()
            async with shared_client(config) as master:
                statuses.update(await self._until_over(master))
            return Outcome.ENDED, ""

        outcome, message = await self.outcome_of(wait(), "Titan jobs")
        return JobEvent(outcome, statuses, message=message)

    async def _until_over(self, master: SharedClient) -> dict[str, JobStatus]:
        """The states of the jobs, once nothing more can happen to any of them."""
        while True:
            report = await self._report(master)
            jobs = () if report is None else report.jobs
            if report is not None and all(job.will_not_run for job in jobs):
                return {job.job_id: job.state for job in jobs}
            going = [job.job_id for job in jobs if job.state in (JobStatus.PENDING, JobStatus.RUNNING)]
            await self._news(master, going)

    async def _news(self, master: SharedClient, job_ids: Sequence[str]) -> None:
        """Return when all of these jobs have ended, or one of them without success; or after ``poll_interval``, as others
        may have been submitted.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.poll_interval
        with master.watch(
            dict.fromkeys(job_ids, ""), self.poll_interval, self.unreachable_timeout
        ) as statuses:
            while (left := end - loop.time()) > 0:
                await statuses.news(left)
                found = list(statuses.known.values())
                ended = [status for status in found if status.is_terminal]
                if (job_ids and len(ended) == len(job_ids)) or not all(s.is_success for s in ended):
                    return

    async def _report(self, master: SharedClient) -> DagReport | None:
        if self.dag_name is None:
            states = await master.ask(
                lambda client: client.get_job_statuses(self.job_ids), self.unreachable_timeout
            )
            return DagReport("", tuple(JobReport(job_id, state) for job_id, state in states.items()))
        name = self.dag_name
        try:
            handle = await master.ask(
                lambda client: client.find_dag(name, self.run_id), self.unreachable_timeout
            )
        except NotFound:
            return None  # not submitted yet
        return await master.ask(lambda _: handle.report(), self.unreachable_timeout)
