"""The timing and limits of a real master, which tests may shorten."""

from __future__ import annotations

from dataclasses import dataclass

from titan_sdk.errors import InvalidArgument

__all__ = ["StrictSettings"]


@dataclass(frozen=True, slots=True)
class StrictSettings:
    """The timing of a strict master. Every default is a real Titan's; all times are in seconds.

    A test that cannot wait uses ``LocalCluster(strict_titan=StrictSettings(no_worker_pause=0.05))``.

    Raises:
        InvalidArgument: a value is below zero, or there is no slot.
    """

    slots: int = 4
    """The jobs that a worker runs at once."""
    no_worker_pause: float = 2.0
    """The pause of the whole dispatch after a job that no worker can run."""
    saturated_pause: float = 1.0
    """The pause of the whole dispatch after a job whose workers are all full."""
    register_pause: float = 0.0005
    """The time between two lines of one DAG: they are registered one by one, while jobs already run."""
    first_heartbeat: float = 5.0
    heartbeat: float = 10.0
    """The interval at which the master corrects the workers' load, and drops dead workers."""
    reregister: float = 30.0
    """The interval at which a worker registers again. The master then counts it as idle."""
    log_flush: float = 2.0
    """The time for which a worker collects lines, unless it has 200 of them."""
    log_jitter: float = 0.02
    """The delay by which batches of lines can overtake each other, and the job's end can overtake them."""
    log_lines: int = 100
    """The lines that are kept of each id."""
    deploy_poll: float = 2.0
    deploy_polls: int = 10
    """The interval and number of the polls of a service's port. Dispatch waits for them."""
    service_restart: float = 3.0
    dag_job_limit: float = 86_400.0
    plain_job_limit: float = 60.0
    """The time limit of an id with ``DAG-`` and of any other."""
    callback_pauses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """The pauses between a worker's attempts to report the end of a job."""

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise InvalidArgument(f"slots={self.slots}: a worker runs at least one job at once")
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, int | float) and value < 0:
                raise InvalidArgument(f"{name}={value}: it cannot be negative")
