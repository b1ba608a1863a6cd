"""The base of the triggers. The triggers of deferred operators wait once, fire once, and cancel the jobs when a person ends the
task.

Rules for editing. ``run`` may begin again at any moment, in another triggerer; only the positions in the logs are kept, in
TitanStore. ``cleanup`` runs at every restart of a triggerer and must not cancel.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, ClassVar

from titan_provider.events import JobEvent, Outcome
from titan_provider.exceptions import TitanMasterUnreachable, TitanPlacementTimedOut
from titan_provider.hooks.titan import TitanHook
from titan_provider.triggers.cancellation import finish_kill, killed_state, warm_up
from titan_provider.triggers.compat import BaseTrigger, TriggerEvent, log_delivered, triggerer_calls_on_kill
from titan_provider.triggers.shared_client import SharedClient, shared_client
from titan_provider.work.cancel import cancel_jobs
from titan_provider.work.plan import KnownJob, children_first
from titan_provider.work.watch import WorkWatch
from titan_sdk import AsyncTitanClient, ClientConfig, JobStatus, TitanError

__all__ = ["TitanTrigger", "WorkTrigger"]


_SAVE_LIMIT = 3.0
"""Seconds. The positions in the logs are worth no longer delay of a triggerer that stops."""


class TitanTrigger(BaseTrigger):
    """A trigger whose arguments are its public attributes of the same names.

    Arguments lie in Airflow's database in plain text: ids, never secrets. A triggerer may die and another one start the
    trigger again from its arguments at any moment, so times are wall-clock times.
    """

    attribute_of: ClassVar[Mapping[str, str]] = {}
    """The attribute of an argument whose own name is a method's."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and all arguments: the trigger built from them is equal to this one."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        names = inspect.signature(type(self)).parameters
        return path, {name: getattr(self, self.attribute_of.get(name, name)) for name in names}

    async def outcome_of(self, wait: Awaitable[tuple[Outcome, str]], what: str) -> tuple[Outcome, str]:
        """The outcome of a wait with its message, also of one that could not go on.

        :param what: is waited for, for the log
        """
        try:
            return await wait
        except TitanMasterUnreachable as exc:
            return Outcome.UNREACHABLE, str(exc)
        except Exception as exc:
            self.log.exception("Waiting for %s failed", what)
            return Outcome.FAILED, f"waiting for {what} failed: {type(exc).__name__}: {exc}"

    def seconds_left(self, deadline: float | None) -> float | None:
        """Seconds until a unix time, as :func:`asyncio.timeout` takes them."""
        return None if deadline is None else max(deadline - time.time(), 0.0)


class WorkTrigger(TitanTrigger):
    """Waits for the jobs of one task, copies their logs into the task log, and fires once."""

    titan_conn_id: str
    master: str
    deadline: float | None
    cancel_on_kill: bool

    def __init__(self) -> None:
        super().__init__()
        self._statuses: dict[str, JobStatus] = {}
        self._fired = False
        self._asked = ""

    @property
    @abstractmethod
    def known(self) -> Mapping[str, KnownJob]:
        """The jobs to wait for, by name."""

    @abstractmethod
    def make_watch(self) -> WorkWatch:
        """The wait for them."""

    @abstractmethod
    def event_of(self, watch: WorkWatch, outcome: Outcome, message: str) -> JobEvent:
        """The event to fire.

        :param watch: the wait, as far as it came
        """

    @property
    def _what(self) -> str:
        """The jobs, in a line of a log."""
        jobs = list(self.known.values())
        return f"job {jobs[0].job_id}" if len(jobs) == 1 else f"{len(jobs)} jobs"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event when nothing more can happen to the jobs, or when waiting for them is over."""
        event = await self._wait()
        await log_delivered()
        self._fired = True
        yield TriggerEvent(event.to_dict())  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the jobs when a person killed, cleared or marked the task.

        Airflow also calls this when it moves a trigger to another triggerer. The task is then still deferred, and
        its jobs must live.
        """
        if not self._fired and self.cancel_on_kill:
            await finish_kill(self, self._what, self._cancel_if_killed())

    async def cleanup(self) -> None:
        """Before Airflow 3.3 the only sign of a kill; since then nothing to do."""
        if not triggerer_calls_on_kill:
            await self.on_kill()

    async def _cancel_if_killed(self) -> None:
        state = await killed_state(self, self._what)
        if state is None:
            return
        async with AsyncTitanClient(config=await self._config()) as client:
            done, failed = await cancel_jobs(lambda ask: ask(client), self._job_ids)
        for job_id, status in done.items():
            self.log.info("Task is %s: cancelled job %s; it is %s", state, job_id, status)
        for job_id, why in failed.items():
            self.log.error("Job %s could not be cancelled and may still be running: %s", job_id, why)

    @property
    def _job_ids(self) -> list[str]:
        return list(children_first(self.known).values())

    async def _config(self) -> ClientConfig:
        first = next(iter(self.known.values()))
        return await TitanHook(self.titan_conn_id, master=self.master).get_config_of(first.job_id)

    # -- waiting --------------------------------------------------------------------------------------------

    async def _wait(self) -> JobEvent:
        warm_up(self)
        self._asked = self.master
        watch = self.make_watch()
        outcome, message = await self.outcome_of(self._watch_there(watch), self._what)
        return self.event_of(watch, outcome, message)

    async def _watch_there(self, watch: WorkWatch) -> tuple[Outcome, str]:
        config = await self._config()
        self._asked = config.address
        async with shared_client(config) as master:
            return await self._watch(master, watch)

    async def _watch(self, master: SharedClient, watch: WorkWatch) -> tuple[Outcome, str]:
        try:
            async with asyncio.timeout(self.seconds_left(self.deadline)) as limit:
                await watch.run(master)
        except TimeoutError:
            if not limit.expired():
                raise
            return Outcome.TIMED_OUT, await self._give_up(master, watch, "execution_timeout was over")
        except TitanPlacementTimedOut as exc:
            return Outcome.NOT_PLACED, await self._give_up(master, watch, str(exc))
        except asyncio.CancelledError:
            with contextlib.suppress(TitanError, TimeoutError):
                async with asyncio.timeout(_SAVE_LIMIT):
                    await watch.save_at_stop(master)
            raise
        return Outcome.ENDED, ""

    async def _give_up(self, master: SharedClient, watch: WorkWatch, why: str) -> str:
        """Cancel the jobs; the sentence that says so.

        :param why: the reason
        """
        done, failed = await cancel_jobs(master.once, self._job_ids)
        for name, job in self.known.items():
            if (status := done.get(job.job_id, JobStatus.UNKNOWN)) is not JobStatus.UNKNOWN:
                watch.statuses[name] = status
        if failed:
            errors = (
                f"job {j!r} must end, but could not be cancelled: {error}" for j, error in failed.items()
            )
            return "; ".join([why, *errors])
        (first, *others) = self._job_ids
        return f"{why}; " + (
            f"{len(others) + 1} jobs were cancelled" if others else f"job {first!r} was cancelled"
        )
