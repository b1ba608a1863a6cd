"""Brings a run's output to the front while the run goes on, and tells the dispatcher that it has begun."""

from __future__ import annotations

import json
import os
import threading
import time

from titan_sdk.cluster.engines.ray.inside.node.control import Control
from titan_sdk.cluster.engines.ray.inside.node.front_line import Asking, FrontLine
from titan_sdk.cluster.engines.ray.inside.node.ports import listens
from titan_sdk.cluster.engines.ray.values import NOT_KNOWN
from titan_sdk.errors import PeerProtocolError

__all__ = ["Reporter"]

_TURN = 0.25
"""Seconds; a job that ends in its first turn is told of by its end alone."""
_PROBE_TURN = 0.05
_PIECE = 512 * 1024
_INLINE = 64 * 1024
"""Output that travels with the end."""
_AGAIN_SECONDS = 1.0
_FINISH_SECONDS = 60.0
"""How long the output of an ended run waits for a front that nobody knows of."""


class Reporter:
    """A thread of its own, as it waits for the front. The output is a file, so that a job never does.

    Args:
        output: the file, which is cut once it is longer than ``limit``.
        port: of a service; else 0.
    """

    def __init__(
        self, line: FrontLine, run: str, control: Control, output: int, limit: int, port: int
    ) -> None:
        self._line, self._run, self._control = line, run, control
        self._file, self._limit, self._port = output, limit, port
        self._front: Asking | None = None
        self._sent, self._kept = 0, _INLINE
        self._told = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._report, name="titan-reporter", daemon=True)
        self._thread.start()

    def finish(self, *, whole: bool) -> tuple[int, bytes]:
        """The process has ended: all but the last piece of its output is brought; offset and bytes of that piece.

        Args:
            whole: bring that, too, as what this run returns is lost.
        """
        self._kept = 0 if whole else _INLINE
        self._over.set()
        self._thread.join()
        left = self._left
        return self._sent, os.pread(self._file, left, self._sent) if 0 < left <= _INLINE else b""

    def _report(self) -> None:
        failing = 0.0
        while not self._over.wait(_PROBE_TURN if self._probes else _TURN) or self._left > self._kept:
            self._tell()
            try:
                if self._left and not self._bring():
                    break
                failing = 0.0
            except (OSError, PeerProtocolError, ValueError):
                self._hang_up()
                failing = failing or time.monotonic()
                if self._over.is_set() and time.monotonic() > failing + _FINISH_SECONDS:
                    break  # the end itself counts more than the last output
                time.sleep(_AGAIN_SECONDS)
        self._hang_up()

    @property
    def _probes(self) -> bool:
        return bool(self._port) and not self._control.answers

    @property
    def _left(self) -> int:
        """Bytes of output that have not been brought. A file over the limit is cut: the job appends, so the rest falls
        away.
        """
        size = os.fstat(self._file).st_size
        if size > self._limit + 1:
            os.ftruncate(self._file, self._limit + 1)
        return min(size, self._limit + 1) - self._sent

    def _tell(self) -> None:
        answers = self._probes and listens(self._port)
        if answers or not self._told:
            self._told, self._control.answers = True, self._control.answers or answers
            self._line.tell(self._run, self._control.node, self._control.answers)

    def _bring(self) -> bool:
        """A piece of the output; whether the front waits for this run."""
        if self._front is None:
            self._front = Asking(self._line.connect())
        data = os.pread(self._file, min(self._left, _PIECE), self._sent)
        reply = self._front.ask(data, word="output", run=self._run, offset=self._sent)
        if reply.text.startswith(NOT_KNOWN):
            return False
        self._sent = json.loads(reply.payload)["received"]
        return True

    def _hang_up(self) -> None:
        if self._front is not None:
            self._front.close()
            self._front = None
