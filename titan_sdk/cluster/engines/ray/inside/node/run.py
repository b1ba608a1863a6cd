"""One run of one job on a node: the body of its Ray task, or of the actor of a service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from titan_sdk.cluster.engines.base import RunRequest
from titan_sdk.cluster.engines.ray.inside.node.archives import NodeArchives
from titan_sdk.cluster.engines.ray.inside.node.control import Control, by_interrupt
from titan_sdk.cluster.engines.ray.inside.node.ports import listens
from titan_sdk.cluster.engines.ray.inside.node.reporter import Reporter
from titan_sdk.cluster.engines.ray.inside.node.worker_side import WorkerSide, worker_side
from titan_sdk.cluster.engines.ray.values import Ended, Front, Order
from titan_sdk.cluster.engines.staging import SERVICES, StagingFailed, job_port, stage, unstage
from titan_sdk.cluster.worker.machine import end_run
from titan_sdk.cluster.worker.protocol import Start
from titan_sdk.wire.jobs import load_line

__all__ = ["run_job"]

_GUARD_SECONDS = 10.0
"""For a job's guard to end it when the worker process is gone."""


def run_job(
    order: bytes,
    front: bytes,
    about: tuple[str, str],
    archive: Sequence[Any] = (),
    *,
    control: Control | None = None,
) -> bytes:
    """Put the job's files in place, have the node's worker process run it, report what happens meanwhile.

    This process holds the run: if it is killed, the worker process ends the job.

    Args:
        order: an ``Order``.
        front: where the front is.
        about: name of the cluster, and of the dispatcher.
        archive: a reference to the bytes of the archive, in a list so that Ray leaves it for the node to fetch.
        control: of a service; ``None``: a job, which Ray's cancel ends.

    Returns:
        An ``Ended`` and the last output.
    """
    side = worker_side(*about)
    side.line.told(front)
    run = _Run(Order.decode(order), Front.decode(front), side)
    if control is not None:
        return run.to_end(archive, control)
    with by_interrupt() as control:
        return run.to_end(archive, control)


class _Run:
    def __init__(self, order: Order, front: Front, side: WorkerSide) -> None:
        self._order, self._front, self._side = order, front, side
        self._line = load_line(order.job_id, order.line)
        self._port = job_port(self._line) or 0 if self._line.header in SERVICES else 0
        self._environment = side.environment(front)

    def to_end(self, archive: Sequence[Any], control: Control) -> bytes:
        places, run = self._side.places, self._order.run
        path = places.output(run)
        output = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._side.worker.start(self._stage(archive, path), self._environment)
            return self._follow(output, control)
        except (StagingFailed, OSError) as exc:
            reason = str(exc) if isinstance(exc, StagingFailed) else f"it could not be started: {exc}"
            return Ended(node=self._side.name, refused=reason).encode()
        finally:
            os.close(output)
            os.unlink(path)
            unstage(places.staging("", run))

    def _stage(self, archive: Sequence[Any], log: str) -> Start:
        side, order = self._side, self._order
        if self._port and listens(self._port):
            raise StagingFailed(
                f"its port {self._port} is in use on node {side.name}; free it or choose another"
            )
        command = stage(
            RunRequest(order.run, self._line, side.name, 0),
            side.places,
            NodeArchives(side.places, order.archive, archive),
            forks=side.worker.may_fork(self._environment),
        )
        return Start(
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

    def _follow(self, output: int, control: Control) -> bytes:
        """Until the run has ended."""
        side, run = self._side, self._order.run
        control.node = side.name
        reporter = Reporter(side.line, run, control, output, self._front.log_limit, self._port)
        is_stopped, end = False, None
        try:
            while end is None:
                ready = side.wait(side.worker.fileno(), control.wake)
                if control.wake in ready:
                    control.hush()
                if control.is_stopped and not is_stopped:
                    is_stopped = True
                    side.worker.stop(run)
                if side.worker.fileno() in ready:
                    end = side.worker.end(run)
        except ConnectionError:
            # Its guard ends it; the place is not free before that.
            asyncio.run(end_run(run, _GUARD_SECONDS))
            end = {"is": "ended", "code": None}
        finally:
            offset, tail = reporter.finish(whole=is_stopped)
        if end["is"] == "failed":
            return Ended(node=side.name, refused=f"it could not be started: {end['why']}").encode()
        return Ended(end["code"], side.name, is_stopped, offset=offset).encode(tail)
