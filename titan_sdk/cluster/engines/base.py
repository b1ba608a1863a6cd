"""What the master asks of an engine, and what it hears from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from titan_sdk.cluster.scheduler import Outcome
from titan_sdk.wire.jobs import JobLine

__all__ = ["Engine", "Reports", "RunRequest", "RunResult"]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run of one job."""

    run: str
    """Unique over the cluster's whole life; names the run's files and marks its processes."""
    line: JobLine
    worker: str
    attempt: int
    near: str | None = None
    """Where it should run if there is room; for engines that choose the place themselves."""

    @property
    def job_id(self) -> str:
        return self.line.job_id


@dataclass(frozen=True, slots=True)
class RunResult:
    outcome: Outcome
    exit_code: int | None = None
    """As a shell reports it: 128 + n for signal n."""
    reason: str | None = None
    """Set unless the run succeeded; one sentence."""
    foreign: bool = False
    """Whether the run is another master's, which may go on with it."""


class Reports(Protocol):
    """The master's ears. Called in the loop's thread."""

    def launched(self, request: RunRequest, handle: str) -> None:
        """A process waits for ``Engine.release``; the handle finds it again after a restart of the master."""

    def placed(self, request: RunRequest, place: str) -> None:
        """The run has begun there. Only from engines that choose the place themselves; at most once per run."""

    def exited(self, request: RunRequest, result: RunResult) -> None:
        """Nothing of the run is left that could disturb a next one. Also the answer to a launch that failed."""


class Engine(Protocol):
    """Runs jobs. Every ``start`` and ``reattach`` is answered by exactly one ``Reports.exited``."""

    chooses_places: bool
    """Whether the workers it is told of are pools, and ``Reports.placed`` says where a run really is."""
    keeps_runs: bool
    """Whether runs go on when it is closed, for the next master to re-attach."""

    trouble: str | None
    """Why nothing can be started at the moment; one sentence."""

    async def open(self) -> None:
        """Everything that has to be re-attached was; begin.

        Raises:
            TitanError: what it runs jobs on cannot be used.
        """

    def start(self, request: RunRequest) -> None: ...

    def release(self, run: str) -> None:
        """What ``launched`` said is durable: the job may begin."""

    def kill(self, run: str) -> None:
        """End the run and everything it started: SIGTERM, and after the job's grace SIGKILL."""

    def reattach(self, request: RunRequest, handle: str) -> None:
        """Watch a run that an earlier master started."""

    def clean(self, run: str, worker: str) -> None:
        """The run's end is durable: its private files can go."""

    def port_problem(self, port: int) -> str | None:
        """Why no service can listen there, as far as that is known before it is started."""

    async def answers(self, run: str, port: int) -> None:
        """Returns when the port of a service's run accepts connections."""

    async def abandon(self) -> None:
        """Let every run go on without this master, as if it had been killed; no further report is made."""

    async def close(self) -> None:
        """Kill every run and wait until they are gone, unless it ``keeps_runs``; no further report is made."""
