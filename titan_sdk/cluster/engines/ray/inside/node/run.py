"""One run of one job on a node: the body of its Ray task, or of the actor of a service."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from titan_sdk.cluster.engines import processes
from titan_sdk.cluster.engines.base import RunRequest
from titan_sdk.cluster.engines.ray.inside.node.archives import NodeArchives
from titan_sdk.cluster.engines.ray.inside.node.control import Control, by_interrupt
from titan_sdk.cluster.engines.ray.inside.node.ports import listens
from titan_sdk.cluster.engines.ray.inside.node.reporter import Reporter
from titan_sdk.cluster.engines.ray.inside.node.worker_side import WorkerSide, worker_side
from titan_sdk.cluster.engines.ray.values import Ended, Front, Order
from titan_sdk.cluster.engines.staging import (
    SERVICES,
    Command,
    StagingFailed,
    graces,
    job_port,
    stage,
    unstage,
)
from titan_sdk.cluster.store.lines import load_line
from titan_sdk.wire.jobs import JobLine

__all__ = ["run_job"]


def run_job(
    order: bytes,
    front: bytes,
    about: tuple[str, str],
    archive: Sequence[Any] = (),
    *,
    control: Control | None = None,
) -> bytes:
    """Put the job's files in place, run it to its end, report what happens meanwhile.

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
    """Its files, its process, its output."""

    def __init__(self, order: Order, front: Front, side: WorkerSide) -> None:
        self._order, self._front, self._side = order, front, side
        self._line: JobLine = load_line(order.job_id, order.line)
        self._port = job_port(self._line) or 0 if self._line.header in SERVICES else 0
        self._mark = processes.mark_of(order.run)
        self._grace, self._rest = graces(self._line)
        self._until = 0.0
        """When what is left of a run that is being stopped is killed."""

    def to_end(self, archive: Sequence[Any], control: Control) -> bytes:
        try:
            command = self._stage(archive)
        except StagingFailed as exc:
            return Ended(node=self._side.name, refused=str(exc)).encode()
        try:
            return self._execute(command, control)
        except (OSError, ValueError) as exc:
            # ValueError: a NUL in an argument.
            return Ended(node=self._side.name, refused=f"it could not be started: {exc}").encode()
        finally:
            unstage(self._side.places.staging("", self._order.run))

    def _stage(self, archive: Sequence[Any]) -> Command:
        side = self._side
        if self._port and listens(self._port):
            raise StagingFailed(
                f"its port {self._port} is in use on node {side.name}; free it or choose another"
            )
        request = RunRequest(self._order.run, self._line, side.name, 0)
        return stage(request, side.places, NodeArchives(side.places, self._order.archive, archive))

    def _execute(self, command: Command, control: Control) -> bytes:
        path = self._side.places.output(self._order.run)
        self._side.guard.open(self._mark)
        try:
            output = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                return self._watch(self._start(command, output), output, control)
            finally:
                os.close(output)
                os.unlink(path)
        finally:
            self._side.guard.close()

    def _start(self, command: Command, output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=self._side.environment(self._front) | {"TITAN_RUN": self._order.run},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _watch(self, process: subprocess.Popen[bytes], output: int, control: Control) -> bytes:
        side = self._side
        control.node, limit = side.name, self._front.log_limit
        reporter = Reporter(side.line, self._order.run, control, output, limit, self._port)
        try:
            stopped = self._wait(process, control)
        finally:
            self._end_rest(process)
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        offset, tail = reporter.finish(whole=stopped)
        return Ended(code, side.name, stopped, offset=offset).encode(tail)

    def _wait(self, process: subprocess.Popen[bytes], control: Control) -> bool:
        """Until the process has ended; whether that was asked for."""
        pidfd = os.pidfd_open(process.pid)
        try:
            while True:
                left = max(self._until - time.monotonic(), 0.0) if self._until else None
                ready = self._side.wait(left, pidfd, control.wake)
                if pidfd in ready:
                    process.wait()
                    return bool(self._until)
                if control.wake in ready:
                    os.read(control.wake, 4096)
                if control.is_stopped and not self._until:
                    # SIGTERM; SIGKILL follows after the grace.
                    self._until = time.monotonic() + self._grace
                    _signal(process, signal.SIGTERM)
                elif self._until and time.monotonic() >= self._until:
                    _signal(process, signal.SIGKILL)
        finally:
            os.close(pidfd)

    def _end_rest(self, process: subprocess.Popen[bytes]) -> None:
        left = max(self._until - time.monotonic(), 0.0)
        if not left:
            _signal(process, signal.SIGKILL)
        # Also where an exception ends the watching: the process must not go on unseen.
        if process.poll() is None:
            _signal(process, signal.SIGKILL)
            process.wait()
        # After a signal of somebody else, too: it may have ended a launcher, and its guard with it.
        if self._until or process.returncode < 0:
            processes.end_marked(self._mark, left or self._rest, 0 if self._rest else process.pid)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
