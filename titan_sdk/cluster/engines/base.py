"""What the master asks of an engine: to stage a run, to run it, to follow one of an earlier master, to forget it.

    process = await engine.stage(request)           # nothing has begun
    ...                                             # the master stores `process.handle`
    result = await engine.run(process, placed)      # returns when nothing of the run is left
    ...                                             # the master stores the end
    engine.forget(process)                          # private files go

A cancelled task lets go of its run and ends nothing: the run is the next master's. ``kill`` ends a run, whose
``run`` or ``reattach`` then returns as after any other end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from titan_sdk.wire.jobs import JobLine

__all__ = ["Engine", "NoRoom", "Outcome", "Placed", "Process", "RunRequest", "RunResult", "StagingFailed"]


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
    job_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "job_id", self.line.job_id)


class Outcome(Enum):
    """How one run ended, as far as scheduling is concerned."""

    SUCCESS = "success"
    FAILURE = "failure"
    """Run again while runs are left."""
    FATAL = "fatal"
    """No further run can help: staging failed, or the launcher refused."""
    INTERRUPTED = "interrupted"
    """The cluster's doing, not the job's: run again and do not count this one."""


@dataclass(frozen=True, slots=True)
class RunResult:
    outcome: Outcome
    exit_code: int | None = None
    """As a shell reports it: 128 + n for signal n."""
    reason: str | None = None
    """Set unless the run succeeded; one sentence."""
    record: str = ""
    """What its launcher handed in last, if this brings it; see ``FinalRecords``."""
    foreign: bool = False
    """Whether the run is another master's, which may go on with it."""


@dataclass(eq=False, slots=True)
class Process:
    """A run that is staged, or that an earlier master started."""

    request: RunRequest
    handle: str
    """Finds the run again after a restart of the master."""
    killed: bool = False
    run: str = field(init=False)

    def __post_init__(self) -> None:
        self.run = self.request.run


class StagingFailed(Exception):
    """Why a run cannot be started; one sentence. ``outcome`` says whether another run could help."""

    def __init__(self, sentence: str, outcome: Outcome = Outcome.FATAL) -> None:
        super().__init__(sentence)
        self.outcome = outcome


class NoRoom(StagingFailed):
    """It cannot be started at the moment: stage it again soon."""


Placed = Callable[[str], None]
"""Told where a run has begun, at most once, by an engine that chooses the place itself."""


class Engine(Protocol):
    """Runs jobs. Belongs to the loop's thread."""

    chooses_places: bool
    """Whether the workers it is told of are pools, and ``placed`` says where a run really is."""
    keeps_runs: bool
    """Whether runs go on when it is closed, for the next master to re-attach."""

    problem: str | None
    """Why nothing can be started at the moment; one sentence."""

    async def open(self) -> None:
        """Begin. Every run of an earlier master is being re-attached by now.

        Raises:
            TitanError: what it runs jobs on cannot be used.
        """

    async def stage(self, request: RunRequest) -> Process:
        """Prepare a run. Nothing of it has begun, and nothing will before ``run``.

        Raises:
            StagingFailed: it cannot be started, or (``NoRoom``) not at the moment. Nothing is left of it.
        """

    async def run(self, process: Process, placed: Placed) -> RunResult:
        """Begin. Returns when nothing is left of the run that could disturb a next one."""

    async def reattach(self, process: Process, placed: Placed) -> RunResult:
        """As ``run``, for a process that an earlier master has started, or was about to."""

    def kill(self, process: Process) -> None:
        """End a run that has begun, with everything it started: SIGTERM, and after the job's grace SIGKILL.

        Idempotent. A process that is about to be re-attached may be killed, too.
        """

    def forget(self, process: Process) -> None:
        """The end of this run is durable, or it will never begin: its private files go."""

    def port_problem(self, port: int) -> str | None:
        """Why no service can listen there, as far as that is known before it is started."""

    async def answers(self, process: Process, port: int) -> None:
        """Returns when the port of a service's run accepts connections."""

    async def abandon(self) -> None:
        """Let go of every run as if this master had been killed; no ``run`` is awaited any more."""

    async def close(self) -> None:
        """Kill every run; returns when nothing of them is left. An engine that ``keeps_runs`` leaves them as they are."""
