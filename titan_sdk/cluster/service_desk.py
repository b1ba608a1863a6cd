"""What the life of a service means for its job."""

from __future__ import annotations

from titan_sdk.cluster.conductor import Conductor
from titan_sdk.cluster.scheduler import Outcome
from titan_sdk.cluster.state import State
from titan_sdk.cluster.store.changes import SetService
from titan_sdk.cluster.store.rows import Service

__all__ = ["ServiceDesk"]


class ServiceDesk:
    """Implements ``ServiceHost``."""

    def __init__(self, state: State, conductor: Conductor) -> None:
        self._state = state
        self._conductor = conductor

    def service_up(self, job_id: str) -> None:
        """See ``ServiceHost``."""
        job = self._state.scheduler.get(job_id)
        if job is None:
            return
        self._set(job_id, Service.LIVE)
        self._run_is_over(job_id, Outcome.SUCCESS, None)

    def service_failed(self, job_id: str, reason: str) -> None:
        """See ``ServiceHost``."""
        self.note(job_id, f"{job_id} is DEAD: {reason}")
        self._run_is_over(job_id, Outcome.FATAL, reason)

    def service_stopped(self, job_id: str, *, was_up: bool) -> None:
        """See ``ServiceHost``."""
        if was_up:
            self._set(job_id, Service.DEPLOYING)
            self.note(job_id, "the service was stopped")
        else:
            self._run_is_over(job_id, Outcome.FATAL, "it was stopped")

    def note(self, job_id: str, sentence: str) -> None:
        """See ``ServiceHost``."""
        self._state.note(job_id, sentence)

    def _set(self, job_id: str, state: int) -> None:
        seq = self._state.number(job_id)
        self._state.store.journal.record(SetService(seq, state))

    def _run_is_over(self, job_id: str, outcome: Outcome, reason: str | None) -> None:
        now = self._state.clock.now()
        self._conductor.perform(self._state.scheduler.exited(job_id, outcome, reason, now))
