"""The protocol of an engine: stage a run, run it, re-attach a run of an earlier master, forget a run.

    process = await engine.stage(request)           # nothing has begun
    ...                                             # the master stores `process.handle`
    result = await engine.run(process, placed)      # returns when nothing of the run is left
    ...                                             # the master stores the end
    engine.forget(process)                          # private files go

Cancelling a task leaves its run alive for the next master. ``kill`` ends a run; its ``run`` or ``reattach`` then returns as
after any other end.
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
    """The run's name, unique over the cluster's life. Its files and processes carry it."""
    line: JobLine
    worker: str
    attempt: int
    near: str | None = None
    """The preferred place, for engines that choose the place themselves."""
    job_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "job_id", self.line.job_id)


class Outcome(Enum):
    """The end of a run, for the scheduler."""

    SUCCESS = "success"
    FAILURE = "failure"
    """Run again while runs are left."""
    FATAL = "fatal"
    """No further run can help: staging failed, or the launcher refused."""
    INTERRUPTED = "interrupted"
    """The cluster ended it, not the job: run again, and do not count this run."""


@dataclass(frozen=True, slots=True)
class RunResult:
    outcome: Outcome
    exit_code: int | None = None
    """As a shell reports it: 128 + n for signal n."""
    reason: str | None = None
    """Set unless the run succeeded; one sentence."""
    record: str = ""
    """The launcher's final record, if it came with the end; see ``FinalRecords``."""
    foreign: bool = False
    """Whether the run belongs to another master, which may continue it."""


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
    """A run cannot be started; one sentence. ``outcome`` says whether another run could help."""

    def __init__(self, sentence: str, outcome: Outcome = Outcome.FATAL) -> None:
        super().__init__(sentence)
        self.outcome = outcome


class NoRoom(StagingFailed):
    """The run cannot be started at the moment. Stage it again soon."""


Placed = Callable[[str], None]
"""Called, at most once, with the place of a run that has begun, by an engine that chooses the place itself."""


class Engine(Protocol):
    """Runs jobs. Belongs to the loop's thread."""

    chooses_places: bool
    """Whether the engine's workers are pools, and ``placed`` reports the real place of a run."""
    keeps_runs: bool
    """Whether runs go on when it is closed, for the next master to re-attach."""

    problem: str | None
    """The reason why no run can be started at the moment; one sentence."""

    async def open(self) -> None:
        """Start the engine. Every run of an earlier master is being re-attached by now.

        Raises:
            TitanError: the machine or cluster for the jobs cannot be used.
        """

    async def stage(self, request: RunRequest) -> Process:
        """Prepare a run. It begins only with ``run``.

        Raises:
            StagingFailed: it cannot be started, or (``NoRoom``) not at the moment. No file of it is left.
        """

    async def run(self, process: Process, placed: Placed) -> RunResult:
        """Run the staged process. Returns when no process of the run is left that could disturb the next run."""

    async def reattach(self, process: Process, placed: Placed) -> RunResult:
        """``run`` for a process that an earlier master has started, or was about to start."""

    def kill(self, process: Process) -> None:
        """End a run with all its processes: SIGTERM, and SIGKILL after the job's grace.

        Idempotent. A process that is about to be re-attached may be killed, too.
        """

    def forget(self, process: Process) -> None:
        """Remove the private files of a run whose end is durable, or that will never begin."""

    def port_problem(self, port: int) -> str | None:
        """The reason why no service can listen on the port, as far as it is known before the start."""

    async def answers(self, process: Process, port: int) -> None:
        """Returns when the port of a service's run accepts connections."""

    async def abandon(self) -> None:
        """Leave every run alive, as if this master had been killed. No ``run`` is awaited any more."""

    async def close(self) -> None:
        """Kill every run, and wait until no process is left. An engine that ``keeps_runs`` leaves them alive."""
