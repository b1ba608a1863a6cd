"""The trigger of deferred TitanDagOperators. Rules for editing: see ``triggers/titan.py``."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from titan_provider.dags.plan import KnownJob, children_first
from titan_provider.dags.watch import DagWatch
from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import TitanMasterUnreachable, TitanPlacementTimedOut
from titan_provider.hooks.titan import TitanHook
from titan_provider.triggers.base import (
    TitanTrigger,
    TriggerEvent,
    logs_take_timestamps,
    triggerer_calls_on_kill,
)
from titan_provider.triggers.killing import finish_kill, killed_state, warm_up
from titan_provider.triggers.passing import lines_passed_on
from titan_provider.triggers.poller import SharedMaster, lease
from titan_sdk import AsyncTitanClient, ClientConfig, JobStatus, NotFound, TitanError

__all__ = ["TitanDagTrigger"]


class TitanDagTrigger(TitanTrigger):
    """Waits for the jobs of one task, copies their logs into the task log, and fires once.

    :param jobs: the jobs to wait for, by name, as JSON
    :param deadline: unix time at which they are cancelled
    :param unreachable_timeout: seconds for which the master may be silent
    :param cancel_on_kill: cancel the jobs when the task is killed, cleared or marked
    :param log_interval: seconds between two groups of log lines of one job
    :param placement_timeout: seconds for which a job may wait for a worker once its parents have completed
    :param master: address of the master that has the jobs, where the connection has been edited since
    :param log_key: where in TitanStore the positions in the logs are kept; made here, new for every deferral
    """

    def __init__(
        self,
        titan_conn_id: str,
        jobs: Mapping[str, Mapping[str, Any]],
        poll_interval: float = 2.0,
        log_interval: float = 30.0,
        deadline: float | None = None,
        unreachable_timeout: float = 300.0,
        cancel_on_kill: bool = True,
        log_key: str | None = None,
        placement_timeout: float | None = None,
        master: str = "",
    ) -> None:
        super().__init__()
        self.titan_conn_id = titan_conn_id
        self.jobs = {name: dict(job) for name, job in jobs.items()}
        self.poll_interval = poll_interval
        self.log_interval = log_interval
        self.deadline = deadline
        self.unreachable_timeout = unreachable_timeout
        self.cancel_on_kill = cancel_on_kill
        self.log_key = log_key or f"titan:airflow:log:{secrets.token_hex(8)}"
        self.placement_timeout = placement_timeout
        self.master = self._asked = master
        self._known = {name: _known(job) for name, job in self.jobs.items()}
        self._statuses = dict.fromkeys(self.jobs, JobStatus.UNKNOWN)
        self._fired = False

    @staticmethod
    def plain(jobs: Mapping[str, KnownJob]) -> dict[str, dict[str, Any]]:
        """Jobs as this trigger's argument."""
        return {name: asdict(job) | {"parents": list(job.parents)} for name, job in jobs.items()}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event when nothing more can happen to the jobs, or when waiting for them is over."""
        event = await self._watch()
        await lines_passed_on()
        self._fired = True
        yield TriggerEvent(event.to_dict())  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the jobs when a person killed, cleared or marked the task."""
        if not self._fired and self.cancel_on_kill:
            await finish_kill(self, f"{len(self.jobs)} jobs", self._cancel_if_killed())

    async def _cancel_if_killed(self) -> None:
        state = await killed_state(self, f"{len(self.jobs)} jobs")
        if state is None:
            return
        async with AsyncTitanClient(config=await self._config()) as client:
            for name, job_id in children_first(self._known).items():
                try:
                    status = await client.cancel_job(job_id)
                    self.log.info("Task is %s: cancelled job %s; it is %s", state, name, status)
                except TitanError as exc:
                    self.log.error("Job %s could not be cancelled and may still be running: %s", job_id, exc)

    async def cleanup(self) -> None:
        """Before Airflow 3.3 the only sign of a kill; since then nothing to do."""
        if not triggerer_calls_on_kill:
            await self.on_kill()

    async def _config(self) -> ClientConfig:
        hook = TitanHook(self.titan_conn_id, master=self.master)
        return await hook.get_config_of(next(iter(self._known.values())).job_id)

    async def _watch(self) -> JobEvent:
        warm_up(self)
        try:
            config = await self._config()
            self._asked = config.address
            async with lease(config) as master:
                watch = DagWatch(
                    self._known,
                    self.log,
                    poll_interval=self.poll_interval,
                    log_interval=self.log_interval,
                    unreachable_timeout=self.unreachable_timeout,
                    placement_timeout=self.placement_timeout,
                    dated=logs_take_timestamps,
                    log_key=self.log_key,
                )
                self._statuses = watch.statuses
                left = None if self.deadline is None else max(self.deadline - time.time(), 0.0)
                try:
                    async with asyncio.timeout(left) as limit:
                        await watch.run(master)
                except TimeoutError:
                    if not limit.expired():
                        raise
                    over = "the jobs were cancelled, because their task's execution_timeout was over"
                    return await self._give_up(master, Outcome.TIMED_OUT, over)
                except TitanPlacementTimedOut as exc:
                    return await self._give_up(master, Outcome.NOT_PLACED, str(exc))
                return self._event(Outcome.ENDED)
        except TitanMasterUnreachable as exc:
            return self._event(Outcome.UNREACHABLE, str(exc))
        except Exception as exc:
            self.log.exception("Waiting for Titan jobs failed")
            return self._event(Outcome.FAILED, f"waiting for Titan jobs failed: {type(exc).__name__}: {exc}")

    async def _give_up(self, master: SharedMaster, outcome: Outcome, why: str) -> JobEvent:
        trouble = []
        for name, job_id in children_first(self._known).items():
            try:
                self._statuses[name] = await master.once(partial(_cancel, job_id))
            except NotFound:
                continue
            except TitanError as exc:
                trouble.append(f"{job_id!r} could not be cancelled: {exc}")
        return self._event(outcome, "; ".join([why, *trouble]))

    def _event(self, outcome: Outcome, message: str = "") -> JobEvent:
        statuses = {job.job_id: self._statuses[name] for name, job in self._known.items()}
        return JobEvent(outcome, statuses, message=message, master=self._asked)


async def _cancel(job_id: str, client: AsyncTitanClient) -> JobStatus:
    return await client.cancel_job(job_id)


def _known(job: Mapping[str, Any]) -> KnownJob:
    return KnownJob(**{**job, "parents": tuple(job["parents"])})
