"""What a node tells the dispatcher while a job runs, and what it is told: output as it comes, a kill."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future
from typing import Any

import ray

from titan_sdk.cluster.engines.ray.inside.node.ports import listens
from titan_sdk.cluster.engines.ray.inside.node.worker_side import WorkerSide
from titan_sdk.cluster.engines.ray.values import Began, Spec
from titan_sdk.cluster.engines.staging import job_port

__all__ = ["Reporter"]

_TURN = 0.25
"""Seconds; a job that ends in its first turn is told of by its result alone."""
_PROBE_TURN = 0.05
_PIECE = 512 * 1024
_INLINE = 64 * 1024
"""Output that travels with the result."""
_LOOKUP_SECONDS = 1.0
_FINISH_SECONDS = 60.0
"""How long an ended job's output waits for a dispatcher that is gone."""


class Reporter:
    """Belongs to the thread that runs the job. Its ``output`` is a file, so that a job never waits for the front.

    Replies come by callback: while a task's thread is in ``ray.get`` or ``ray.wait``, if only for a glance, Ray gives
    its CPU to the next task, and starts a worker process for that.
    """

    def __init__(self, spec: Spec, side: WorkerSide, began: Began, output: int, limit: int) -> None:
        self._spec, self._side, self._began, self._limit = spec, side, began, limit
        self._file = output
        self._sent = 0
        self._pushing: tuple[Future[Any], int] | None = None
        self._orders: Future[Any] | None = None
        self._told = self._told_answers = False
        self._port = (job_port(spec.line) or 0) if spec.service else 0
        self._started = time.monotonic()
        self._retry_at = 0.0
        self.kill_wanted = False

    def turn(self, pidfd: int) -> bool:
        """Wait for the process's end, a reply or a moment; whether it has ended."""
        probing = self._port and not self._told_answers
        wait = _PROBE_TURN if probing else _TURN
        if pidfd in self._side.wait(wait, pidfd):
            return True
        self._side.hush()
        self._hear()
        if time.monotonic() >= self._retry_at:
            self._say()
        return False

    def finish(self) -> tuple[int, bytes]:
        """The process has ended: bring all but the last piece of its output; offset and bytes of that piece."""
        deadline = time.monotonic() + _FINISH_SECONDS
        while True:
            self._hear()
            if self._side.line.is_up:
                deadline = time.monotonic() + _FINISH_SECONDS
            left = self._size() - self._sent
            if self._pushing is None and left <= _INLINE:
                return self._sent, self._read(left)
            if time.monotonic() >= self._retry_at:
                self._say()
            self._side.wait(_TURN)
            self._side.hush()
            if time.monotonic() > deadline:
                # Nobody has been there to take it: what is known of the end counts more than its last output.
                return self._sent, b""

    # ------------------------------------------------------------------ hearing

    def _hear(self) -> None:
        if self._orders is not None and (reply := self._reply(self._orders)) is not None:
            self._orders = None
            self.kill_wanted = self.kill_wanted or reply[0] is True
        if self._pushing is not None and (reply := self._reply(self._pushing[0])) is not None:
            if reply[0] is not _FAILED:
                self._sent = self._pushing[1]
                self._told = True
            self._pushing = None

    def _reply(self, reply: Future[Any]) -> tuple[Any] | None:
        """The reply in a tuple once it is there; a lost one is ``_FAILED``."""
        if not reply.done():
            return None
        try:
            return (reply.result(),)
        except ray.exceptions.RayError:
            # The dispatcher is gone. A job dies with it; a service says everything again to the next one.
            self._side.line.forget()
            self._retry_at = time.monotonic() + _LOOKUP_SECONDS
            return (_FAILED,)

    # ------------------------------------------------------------------ saying

    def _say(self) -> None:
        try:
            if self._orders is None:
                self._orders = self._send("orders", self._spec.run)
            if self._port and not self._told_answers and listens(self._port):
                self._send("answers", self._spec.run, self._began)
                self._told_answers = True
            if self._pushing is None:
                self._push()
        except ValueError:
            self._retry_at = time.monotonic() + _LOOKUP_SECONDS

    def _push(self) -> None:
        data = self._read(min(self._size() - self._sent, _PIECE))
        if data or not self._told:
            reply = self._send("push", self._spec.run, self._began, self._sent, data)
            self._pushing = reply, self._sent + len(data)

    def _send(self, method: str, *args: object) -> Future[Any]:
        reply: Future[Any] = self._side.line.call(method, *args).future()
        reply.add_done_callback(self._side.ring)
        return reply

    def _size(self) -> int:
        """Bytes of output that count. A file over the limit is cut: the job appends, so the rest falls away."""
        size = os.fstat(self._file).st_size
        if size > self._limit + 1:
            os.ftruncate(self._file, self._limit + 1)
        return min(size, self._limit + 1)

    def _read(self, length: int) -> bytes:
        return os.pread(self._file, length, self._sent) if length > 0 else b""


class _Failed:
    pass


_FAILED = _Failed()
