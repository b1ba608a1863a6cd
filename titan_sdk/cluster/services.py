"""Services: started, watched until their port answers, started again when they end, until they are stopped.

Each (re)start is one run of the engine, so a service survives a restart of the master like any job.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from titan_sdk.cluster.engines.base import Engine, RunRequest, RunResult
from titan_sdk.cluster.engines.staging import job_port
from titan_sdk.wire.jobs import DEPLOY_PAYLOAD, JobLine

__all__ = ["RESTART_SECONDS", "Service", "ServiceHost", "Services"]

RESTART_SECONDS = 3.0
_EARLY_RESTART_SECONDS = 0.5
_MAX_START_EXITS = 4


class ServiceHost(Protocol):
    """The master, as services see it."""

    def service_up(self, job_id: str) -> None:
        """It answers: the job is COMPLETED, the service goes on."""

    def service_failed(self, job_id: str, reason: str) -> None:
        """It never came up, and nothing of it is left."""

    def service_stopped(self, job_id: str, *, was_up: bool) -> None:
        """It was stopped, and nothing of it is left."""

    def note(self, job_id: str, sentence: str) -> None:
        """A line for its log."""


@dataclass(slots=True)
class Service:
    line: JobLine
    worker: str
    new_run: Callable[[], str]
    up: bool = False
    stopping: bool = False
    failure: str | None = None
    run: str | None = None
    exits: int = 0
    starts: int = 0
    timer: asyncio.TimerHandle | None = None
    deadline: asyncio.TimerHandle | None = None
    probe: asyncio.Task[None] | None = None
    near: str | None = None
    """Where it should run if there is a choice."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def port(self) -> int:
        return job_port(self.line) or 0


class Services:
    """Every service that is not stopped, by id."""

    def __init__(self, engine: Engine, host: ServiceHost, start_seconds: float) -> None:
        self._engine = engine
        self._host = host
        self._start_seconds = start_seconds
        self._loop = asyncio.get_running_loop()
        self._services: dict[str, Service] = {}

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._services

    def live(self) -> list[str]:
        """Ids of the services that are up, or being restarted."""
        return [job_id for job_id, service in self._services.items() if service.up and not service.stopping]

    def by_tag(self) -> Counter[str]:
        """How many there are, those included that are being started or stopped."""
        return Counter(service.line.requirement for service in self._services.values())

    def on_worker(self, worker: str) -> list[str]:
        return [job_id for job_id, service in self._services.items() if service.worker == worker]

    # ------------------------------------------------------------------ life

    def deploy(self, line: JobLine, worker: str, new_run: Callable[[], str], near: str | None = None) -> None:
        """Start a service; the host hears ``service_up`` or ``service_failed``."""
        service = self._services[line.job_id] = Service(line, worker, new_run, near=near)
        problem = self._port_problem(service)
        if problem is not None:
            service.failure = problem
            self._loop.call_soon(self._end, service)
            return
        service.deadline = self._loop.call_later(self._start_seconds, self._too_late, service)
        self._start(service)

    def resume(self, line: JobLine, worker: str, new_run: Callable[[], str], *, up: bool) -> Service:
        """Go on with a service of an earlier master; the caller re-attaches its run or restarts it."""
        service = self._services[line.job_id] = Service(line, worker, new_run, up=up)
        if not up:
            service.deadline = self._loop.call_later(self._start_seconds, self._too_late, service)
        return service

    def restart(self, service: Service, delay: float) -> None:
        """Start a service's next run after so many seconds."""
        service.run = None
        service.timer = self._loop.call_later(delay, self._start, service)

    def released(self, request: RunRequest) -> None:
        """The process of this run has begun."""
        service = self._services.get(request.job_id)
        if service is None or service.up or service.stopping or service.failure is not None:
            return
        if service.port:
            if service.probe is None:
                service.probe = self._loop.create_task(self._probe(service))
        else:
            self._is_up(service)

    def is_stopping(self, job_id: str) -> bool:
        """Whether the service was stopped, and something of it may be left."""
        service = self._services.get(job_id)
        return service is not None and service.stopping

    def placed(self, request: RunRequest, place: str) -> None:
        """The run began there: the service is where this is, whatever worker it was given to."""
        service = self._services.get(request.job_id)
        if service is not None:
            service.worker = place

    def exited(self, request: RunRequest, result: RunResult) -> None:
        """A run of a service has ended."""
        service = self._services.get(request.job_id)
        if service is None:
            return
        service.run = None
        if result.foreign:
            self._host.note(request.job_id, result.reason or "")
            service.stopping = True
        if service.stopping or service.failure is not None:
            self._end(service)
            return
        how = result.reason or "it ended with exit code 0"
        if not service.up:
            service.exits += 1
            if result.exit_code is None or service.exits >= _MAX_START_EXITS:
                service.failure = f"the service ended before it was up: {how}"
                self._end(service)
                return
        delay = RESTART_SECONDS if service.up else _EARLY_RESTART_SECONDS
        self._host.note(request.job_id, f"{how}; the service is started again in {delay:g} s")
        self.restart(service, delay)

    def stop(self, job_id: str) -> asyncio.Event:
        """End a service with everything it started; the event is set when nothing of it is left."""
        service = self._services[job_id]
        if not service.stopping:
            service.stopping = True
            if service.run is None:
                self._loop.call_soon(self._end, service)
            else:
                self._engine.kill(service.run)
        return service.gone

    # ------------------------------------------------------------------ parts

    def _start(self, service: Service) -> None:
        service.timer = None
        service.starts += 1
        service.run = service.new_run()
        self._engine.start(
            RunRequest(service.run, service.line, service.worker, service.starts, service.near)
        )

    def _port_problem(self, service: Service) -> str | None:
        port = service.port
        if not port:
            if service.line.header == DEPLOY_PAYLOAD:
                return "its port is 0; give the port on which the service listens"
            return None
        for other_id, other in self._services.items():
            if other is not service and other.port == port:
                return (
                    f"its port {port} belongs to the service {other_id}; stop that one or choose another port"
                )
        return self._engine.port_problem(port)

    async def _probe(self, service: Service) -> None:
        assert service.run is not None
        await self._engine.answers(service.run, service.port)
        if not service.stopping and service.failure is None:
            self._is_up(service)

    def _is_up(self, service: Service) -> None:
        service.up = True
        if service.deadline is not None:
            service.deadline.cancel()
        self._host.service_up(service.line.job_id)

    def _too_late(self, service: Service) -> None:
        service.failure = (
            f"its port {service.port} did not answer within {self._start_seconds:g} s; "
            "let the service listen there, or raise service_start_seconds"
        )
        if service.run is None:
            self._end(service)
        else:
            self._engine.kill(service.run)

    def _end(self, service: Service) -> None:
        if service.gone.is_set():
            return
        for timer in (service.timer, service.deadline):
            if timer is not None:
                timer.cancel()
        if service.probe is not None:
            service.probe.cancel()
        job_id = service.line.job_id
        del self._services[job_id]
        if service.stopping:
            self._host.service_stopped(job_id, was_up=service.up)
        else:
            self._host.service_failed(job_id, service.failure or "the service could not be started")
        service.gone.set()

    def close(self) -> None:
        """Forget all timers; the engine ends the processes."""
        for service in self._services.values():
            for timer in (service.timer, service.deadline):
                if timer is not None:
                    timer.cancel()
            if service.probe is not None:
                service.probe.cancel()
