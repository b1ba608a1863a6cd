"""How long a real master stalls, waits and keeps: its own values, which tests may shrink."""

from __future__ import annotations

from dataclasses import dataclass

from titan_sdk.errors import InvalidArgument

__all__ = ["StrictSettings"]


@dataclass(frozen=True, slots=True)
class StrictSettings:
    """The pace of a strict master. Every default is what a real Titan does; all times are seconds.

    Give it as ``LocalCluster(strict_titan=StrictSettings(no_worker_pause=0.05))`` where a test cannot wait.

    Raises:
        InvalidArgument: a value is below zero, or there is no slot.
    """

    slots: int = 4
    """Jobs a worker runs at once."""
    no_worker_pause: float = 2.0
    """Dispatch stands still for so long, for every job, after meeting a job that no worker can run."""
    saturated_pause: float = 1.0
    """The same after meeting a job whose workers are all full."""
    register_pause: float = 0.0005
    """Between two lines of one DAG: they are registered one by one, while jobs already run."""
    first_heartbeat: float = 5.0
    heartbeat: float = 10.0
    """How often the master corrects what it believes of the workers' load, and drops the dead ones."""
    reregister: float = 30.0
    """How often a worker registers anew, by which the master takes it for idle."""
    log_flush: float = 2.0
    """How long a worker collects lines, unless there are 200 of them."""
    log_jitter: float = 0.02
    """By how much two batches of lines can overtake each other, and the end of the job both."""
    log_lines: int = 100
    """Lines kept of each id."""
    deploy_poll: float = 2.0
    deploy_polls: int = 10
    """How often, and how many times, a service's port is tried; dispatch waits for it."""
    service_restart: float = 3.0
    dag_job_limit: float = 86_400.0
    plain_job_limit: float = 60.0
    """The time limit of an id with ``DAG-`` and of any other."""
    callback_pauses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """A worker's waits between its tries to report the end of a job."""

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise InvalidArgument(f"slots={self.slots}: a worker runs at least one job at once")
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, int | float) and value < 0:
                raise InvalidArgument(f"{name}={value}: it cannot be negative")
