"""One run of one job on a node: the body of its Ray task, or of the actor of a service."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from titan_sdk.cluster.engines import processes
from titan_sdk.cluster.engines.base import RunRequest
from titan_sdk.cluster.engines.orphans import mark_of
from titan_sdk.cluster.engines.ray.inside.node.archives import NodeArchives
from titan_sdk.cluster.engines.ray.inside.node.ports import listens
from titan_sdk.cluster.engines.ray.inside.node.reporter import Reporter
from titan_sdk.cluster.engines.ray.inside.node.worker_side import WorkerSide, worker_side
from titan_sdk.cluster.engines.ray.values import Began, Config, Finished, Spec, pack, unpack
from titan_sdk.cluster.engines.staging import Command, StagingFailed, graces, job_port, stage

__all__ = ["run_job"]


def run_job(order: bytes, archive: Sequence[Any] = ()) -> bytes:
    """Put the job's files in place, run it to its end, report what happens meanwhile.

    Args:
        order: packed: the spec, and packed config, cluster and name of the dispatcher.
        archive: a reference to the bytes of the archive, in a list so that Ray leaves it for the node to fetch.

    Returns:
        A packed ``Finished``.
    """
    spec, surroundings = unpack(order)
    config, cluster, dispatcher = _surroundings(surroundings)
    return pack(_run(spec, config, worker_side(cluster, dispatcher), archive))


@functools.lru_cache(maxsize=4)
def _surroundings(packed: bytes) -> tuple[Config, str, str]:
    """They change with the front."""
    config, cluster, dispatcher = unpack(packed)
    return config, cluster, dispatcher


def _run(spec: Spec, config: Config, side: WorkerSide, archive: Sequence[Any]) -> Finished:
    began = Began(side.name, side.host)
    try:
        command = _stage(spec, side, archive)
    except StagingFailed as exc:
        return Finished(began=began, refused=str(exc))
    except KeyboardInterrupt:
        return Finished(began=began, killed=True)
    try:
        return _Run(spec, config, side, began).to_end(command)
    finally:
        side.folders.give_back(side.places.staging("", spec.run))


def _stage(spec: Spec, side: WorkerSide, archive: Sequence[Any]) -> Command:
    request = RunRequest(spec.run, spec.line, side.name, 0)
    archives = NodeArchives(side.places, spec.archive, archive)
    port = job_port(spec.line) or 0 if spec.service else 0
    if port and listens(port):
        raise StagingFailed(f"its port {port} is in use on node {side.name}; free it or choose another")
    return stage(request, side.places, archives, side.folders)


class _Run:
    """A started process, its output, and what is asked of it."""

    def __init__(self, spec: Spec, config: Config, side: WorkerSide, began: Began) -> None:
        self._spec, self._config, self._side, self._began = spec, config, side, began
        self._mark = mark_of(spec.run)
        self._output = side.places.output(spec.run)
        self._killed = False
        self._grace, self._rest = graces(spec.line)
        self._until = 0.0
        """When what is left of a run that is being stopped is killed."""

    def to_end(self, command: Command) -> Finished:
        output = -1
        try:
            self._side.guard.open(self._mark)
            output = os.open(self._output, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            process = self._start(command, output)
        except (OSError, ValueError) as exc:
            # ValueError: a NUL in an argument.
            self._close(output)
            return Finished(began=self._began, refused=f"it could not be started: {exc}")
        reporter = Reporter(self._spec, self._side, self._began, output, self._config.log_limit)
        try:
            code = self._watch(process, reporter)
            offset, tail = reporter.finish()
        finally:
            self._end_rest(process)
            self._close(output)
        return Finished(code, self._began, self._killed, offset=offset, tail=tail)

    def _start(self, command: Command, output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env={**self._side.environment(self._config), b"TITAN_RUN": self._spec.run.encode()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _close(self, output: int) -> None:
        self._side.guard.close()
        if output >= 0:
            os.close(output)
            with suppress(FileNotFoundError):
                os.unlink(self._output)

    def _watch(self, process: subprocess.Popen[bytes], reporter: Reporter) -> int | None:
        """The exit code, once the process has ended or was killed."""
        pidfd = os.pidfd_open(process.pid)
        try:
            while not self._turn(process, reporter, pidfd):
                if self._killed and time.monotonic() >= self._until:
                    self._kill(process)
        finally:
            os.close(pidfd)
        code = process.wait()
        return code if code >= 0 else 128 - code

    def _turn(self, process: subprocess.Popen[bytes], reporter: Reporter, pidfd: int) -> bool:
        """Whether the process has ended."""
        ended, asked = False, False
        try:
            ended = reporter.turn(pidfd)
        except KeyboardInterrupt:
            # How Ray cancels a task that has begun.
            asked = True
        if (asked or reporter.kill_wanted) and not self._killed and not ended:
            self._stop(process)
        return ended

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """SIGTERM; SIGKILL follows after the grace."""
        self._killed = True
        self._until = time.monotonic() + self._grace
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

    def _end_rest(self, process: subprocess.Popen[bytes]) -> None:
        left = max(self._until - time.monotonic(), 0.0)
        if not left:
            self._kill(process)
        # Also where an exception ends the watching: the process must not go on unseen.
        if process.poll() is None:
            self._killed = True
            self._kill(process)
            process.wait()
        # After a signal of somebody else, too: it may have ended a launcher, and its guard with it.
        if self._killed or process.returncode < 0:
            processes.end_marked(self._mark, left or self._rest, 0 if self._rest else process.pid)
