"""The work of a fork of the worker process. No function here returns."""

from __future__ import annotations

import os
from typing import NoReturn

from titan_sdk.cluster.worker import forked_launcher, plain_guard
from titan_sdk.cluster.worker.protocol import StartRequest
from titan_sdk.runtime.worker import processes
from titan_sdk.runtime.worker.c_modules import signal

__all__ = ["HELD_BACK", "Inherited", "become_guard", "become_heir"]

HELD_BACK = (signal.SIGTERM, signal.SIGCHLD)
"""The signals that are blocked during a fork."""
_FAILED = 255


class Inherited:
    """The parts of the worker process that a child needs.

    Args:
        closes: the descriptors that only the worker process uses; the child closes them.
        library: see ``Launchers``.
    """

    def __init__(self, closes: list[int], library: str) -> None:
        self.closes, self.library = closes, library
        self.worker = os.getpid()


def become_guard(
    start: StartRequest, environment: dict[str, str], inherited: Inherited, worker: int
) -> NoReturn:
    """Become the guard of this run and of later ones, in a new fork."""
    try:
        _leave_worker(inherited)
        # When the worker process is gone, a launcher stops its job as after a stop request.
        processes.die_with_parent(inherited.worker, signal.SIGTERM)
        plain_guard.serve(worker, start, environment, inherited.library)
    except BaseException as exc:  # noqa: BLE001 - two processes must not both go on from here
        os.write(worker, plain_guard.failure(exc))
    finally:
        os._exit(_FAILED)


def become_heir(
    start: StartRequest, environment: dict[str, str], inherited: Inherited, dead: int
) -> NoReturn:
    """Hands in the end of a job whose launcher, the process ``dead``, was killed."""
    try:
        _leave_worker(inherited)
        processes.die_with_parent(inherited.worker)
        forked_launcher.hand_in_for(start, environment, dead)
    finally:
        os._exit(0)


def _leave_worker(inherited: Inherited) -> None:
    signal.set_wakeup_fd(-1)
    for descriptor in inherited.closes:
        os.close(descriptor)
    os.setsid()
