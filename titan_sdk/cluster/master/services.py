"""The table of services that are not stopped, by id. ``runs`` starts and restarts them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from titan_sdk.cluster.engines.base import Process
from titan_sdk.cluster.engines.staging import job_port
from titan_sdk.wire.jobs import DEPLOY_PAYLOAD, JobLine

__all__ = ["Service", "Services"]


@dataclass(eq=False, slots=True)
class Service:
    line: JobLine
    seq: int
    worker: str
    near: str | None = None
    """The preferred worker."""
    up: bool = False
    """Whether its port has answered. Its job is then COMPLETED, and the service is kept running."""
    stopping: bool = False
    """Whether a client has stopped it."""
    failure: str | None = None
    """The reason why it cannot be brought up; one sentence."""
    halt: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when no further run may start."""
    starts: int = 0
    early_exits: int = 0
    """The number of runs that ended before it was up."""
    process: Process | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when no process of it is left."""

    @property
    def port(self) -> int:
        return job_port(self.line) or 0


class Services:
    """The services by id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Service] = {}
        self.changed: Callable[[str], None] = _nothing
        """Called with the tag when a service is added or removed."""

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._by_id

    def __iter__(self) -> Iterator[Service]:
        return iter(list(self._by_id.values()))

    def get(self, job_id: str) -> Service | None:
        return self._by_id.get(job_id)

    def add(self, service: Service) -> None:
        self._by_id[service.line.job_id] = service
        self.changed(service.line.requirement)

    def remove(self, service: Service) -> None:
        del self._by_id[service.line.job_id]
        self.changed(service.line.requirement)

    def live(self) -> list[str]:
        """The ids of the services that are up, or being restarted."""
        return [job_id for job_id, service in self._by_id.items() if service.up and not service.stopping]

    def by_tag(self) -> Counter[str]:
        """The number of services by tag, including those that are being started or stopped."""
        return Counter(service.line.requirement for service in self._by_id.values())

    def on_worker(self, worker: str) -> list[str]:
        return [job_id for job_id, service in self._by_id.items() if service.worker == worker]

    def is_stopping(self, job_id: str) -> bool:
        """Whether the service was stopped, and processes of it may be left."""
        service = self._by_id.get(job_id)
        return service is not None and service.stopping

    def port_problem(self, service: Service) -> str | None:
        """The reason why it cannot have its port, by its job line and the other services."""
        port = service.port
        if not port:
            if service.line.header == DEPLOY_PAYLOAD:
                return "its port is 0; give the port on which the service listens"
            return None
        for other_id, other in self._by_id.items():
            if other is not service and other.port == port:
                return (
                    f"its port {port} belongs to the service {other_id}; stop that one or choose another port"
                )
        return None


def _nothing(_tag: str) -> None:
    pass
