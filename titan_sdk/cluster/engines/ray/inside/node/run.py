"""One run of one job on a node: the body of its Ray task, or of the actor of a service."""

from __future__ import annotations

import asyncio
import functools
import shutil
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from titan_sdk.cluster.engines.base import RunRequest
from titan_sdk.cluster.engines.ports import port_problem_here
from titan_sdk.cluster.engines.ray.inside.node.archives import NodeArchives
from titan_sdk.cluster.engines.ray.inside.node.node_context import node_context
from titan_sdk.cluster.engines.ray.inside.node.reporter import Reporter
from titan_sdk.cluster.engines.ray.values import Front, NodeResult, Order
from titan_sdk.cluster.engines.staging import ARCHIVES, SERVICES, StagingFailed, job_port, stage
from titan_sdk.cluster.worker.client import EndKind, RunEnd, WorkerClient, python_as_found
from titan_sdk.cluster.worker.local_workers import end_run
from titan_sdk.cluster.worker.protocol import StartRequest
from titan_sdk.wire.jobs import load_line

__all__ = ["NodeRun", "run_job"]

_GUARD_SECONDS = 10.0
"""For a job's guard to end it when the worker process is gone."""


def run_job(order: bytes, front: bytes, about: tuple[str, str], archive: Sequence[Any] = ()) -> bytes:
    """Put the job's files in place, have the node's worker process run it, report what happens meanwhile.

    This process holds the run: if it is killed, the worker process ends the job. SIGINT, by which Ray cancels a task that
    has begun, ends it, too.

    Args:
        order: an ``Order``.
        front: where the front is.
        about: name of the cluster, and of the dispatcher.
        archive: a reference to the bytes of the archive, in a list so that Ray leaves it for the node to fetch.

    Returns:
        An ``Ended`` and the last output.
    """
    loop, before = _loop(), signal.getsignal(signal.SIGINT)
    stop = asyncio.Event()
    # Ray interrupts the interpreter, and no system call: the loop's own descriptor is what wakes it.
    loop.add_signal_handler(signal.SIGINT, stop.set)
    try:
        return loop.run_until_complete(NodeRun(order, front, about, stop).to_end(archive))
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """For all tasks of this process, which come one after the other."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


class NodeRun:
    """
    Args:
        stop: set when the run is to be ended.
    """

    def __init__(self, order: bytes, front: bytes, about: tuple[str, str], stop: asyncio.Event) -> None:
        self._order, self._front, self._stop = Order.decode(order), Front.decode(front), stop
        self._context = node_context(*about)
        self._context.front_connection.front = front
        self._line = load_line(self._order.job_id, self._order.line)
        self._port = job_port(self._line) or 0 if self._line.header in SERVICES else 0
        self._reporter: Reporter | None = None

    @property
    def state(self) -> tuple[str | None, bool]:
        """On which node it has begun, and whether its port was seen to answer."""
        return (None, False) if self._reporter is None else (self._context.name, self._reporter.answers)

    async def to_end(self, archive: Sequence[Any]) -> bytes:
        """See ``run_job``."""
        with self._context.folders.output(self._order.run) as (path, output):
            try:
                environment = await self._context.environment(self._front)
                worker = await self._context.worker(environment)
                start = await self._stage(archive, path, environment)
            except (StagingFailed, OSError) as exc:
                reason = str(exc) if isinstance(exc, StagingFailed) else f"it could not be started: {exc}"
                return NodeResult(node=self._context.name, refused=reason).encode()
            return await self._follow(worker, worker.start(start, environment), output)

    async def _stage(self, archive: Sequence[Any], log: str, environment: Mapping[str, str]) -> StartRequest:
        context, order = self._context, self._order
        if self._port and (problem := port_problem_here(self._port)):
            raise StagingFailed(f"on node {context.name}, {problem}")
        request = RunRequest(order.run, self._line, context.name, 0)
        archives = NodeArchives(context.folders, order.archive, archive)
        if self._line.header in ARCHIVES:
            command = await asyncio.to_thread(stage, request, context.folders, archives)
        else:
            command = stage(request, context.folders, archives, forks=_may_fork(environment))
        return StartRequest(
            order.run,
            order.job_id,
            list(command.argv),
            command.cwd,
            log,
            "ray",
            command.grace,
            command.rest,
            command.spec or "",
            held=True,
        )

    async def _follow(self, worker: WorkerClient, ending: asyncio.Future[RunEnd], output: int) -> bytes:
        """Until the run has ended."""
        context, run = self._context, self._order.run
        reporter = self._reporter = Reporter(
            context.front_connection, run, context.name, output, self._front.log_limit
        )
        beside = [asyncio.create_task(self._stop_when_told(worker))]
        if self._port:
            beside.append(asyncio.create_task(reporter.watch(self._port)))
        end = await ending
        for task in beside:
            task.cancel()
        if end.how in {EndKind.LOST, EndKind.UNKNOWN}:
            # Its guard ends it; the place is not free before that.
            await end_run(run, _GUARD_SECONDS)
        worker.forget(run)
        is_stopped = self._stop.is_set()
        offset, tail = await reporter.finish(whole=is_stopped)
        if end.how is EndKind.FAILED:
            return NodeResult(node=context.name, refused=f"it could not be started: {end.why}").encode()
        record = context.folders.read_end(run)
        return NodeResult(end.code, context.name, is_stopped, offset=offset, record=record).encode(tail)

    async def _stop_when_told(self, worker: WorkerClient) -> None:
        await self._stop.wait()
        worker.stop(self._order.run)


def _may_fork(environment: Mapping[str, str]) -> bool:
    """Whether the launcher that the worker process has loaded meets what a shell would start for the job."""
    found = shutil.which("python3", path=environment.get("PATH"))
    return found is not None and found == python_as_found() and "BASH_ENV" not in environment
