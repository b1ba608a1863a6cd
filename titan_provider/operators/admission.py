"""The blocking wait for a place in the admission window. Its asynchronous twin is in ``triggers/admission.py``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from titan_provider.admission import Pause, Sightings, Turn, Window, enter
from titan_provider.compat import AirflowException
from titan_provider.joblog import Logger
from titan_provider.waiting import jittered
from titan_sdk import TitanClient

__all__ = ["try_to_enter", "wait_to_enter"]

_LOOK_AGAIN = 3.0


def try_to_enter(
    client: TitanClient, window: Window, job_id: str, sightings: Sightings | None = None
) -> Turn:
    """Look once: whether the id is inside, and who else is.

    :param job_id: a job that has not been submitted yet
    :param sightings: of whoever looks again and again
    """
    flow = enter(window, [job_id], sightings or Sightings())
    outcome: Any = None
    while True:
        try:
            step = flow.send(outcome)
        except StopIteration as end:
            turn: Turn = end.value
            return turn
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            outcome = None
        else:
            outcome = step(client)


def wait_to_enter(
    client: TitanClient, window: Window, job_id: str, log: Logger, given_up: Callable[[], bool]
) -> None:
    """Return once the id is inside.

    :param job_id: a job that has not been submitted yet
    :param given_up: whether nobody waits any more
    :raises AirflowException: nobody waits any more
    """
    said, sightings = False, Sightings()
    while not given_up():
        turn = try_to_enter(client, window, job_id, sightings)
        if turn.admitted:
            return
        if not said:
            log.info("Job %s is held back: %s", job_id, window.why_closed())
            said = True
        began = time.monotonic()
        # A master with WAIT answers when one of them ends; another one at once.
        client.get_job_statuses(turn.inside, wait=_LOOK_AGAIN)
        time.sleep(max(jittered(_LOOK_AGAIN) - (time.monotonic() - began), 0.1))
    raise AirflowException(f"the task was killed before its job {job_id!r} was submitted")
