"""Waiting on while the master is away: it is restarted, or the way to it is cut for a while (section 10)."""

from __future__ import annotations

import random
from typing import TypeVar

from titan_sdk.errors import TLSFailed, TransportError, WaitTimedOut
from titan_sdk.flows.core import STEP_ERRORS, Ask, Flow, Run, Step, now, pause
from titan_sdk.session import Session

__all__ = ["PATIENCE", "Outage"]

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds that a wait outlasts a master that cannot be reached."""
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0


class Outage:
    """Asks a question again until the master is back. Only of a master that has answered before: what was never
    there is more likely a wrong address, which the first question should say.
    """

    def __init__(self, session: Session) -> None:
        self._has_answered = session.was_known or session.server is not None

    def outlast(self, flow: Flow[T], until: float | None = None) -> Flow[T]:
        """Run a flow that only asks, so that it does not notice an outage.

        Args:
            until: moment at which whoever waits wants to be told; by default only the patience ends.

        Raises:
            WaitTimedOut: that moment came while the master was away.
            TransportError: it was away for longer than the patience.
        """
        try:
            run = Run(flow)
            while run.step is not None:
                try:
                    outcome = yield from self._answer(run.step, until)
                except STEP_ERRORS as exc:
                    run.fail(exc)
                else:
                    run.answer(outcome)
            return run.result
        finally:
            flow.close()

    def _answer(self, step: Step, until: float | None) -> Flow[object]:
        since: float | None = None
        interval = _FIRST_PAUSE
        while True:
            try:
                outcome: object = yield step
            except TransportError as exc:
                if not isinstance(step, Ask) or not self._has_answered or isinstance(exc, TLSFailed):
                    raise
                if exc.outcome_unknown and step.call.changes and not step.call.repeatable:
                    raise  # another copy might be another change
                moment = yield from now()
                since = moment if since is None else since
                _check_patience(exc, moment, since, until)
            else:
                self._has_answered = self._has_answered or isinstance(step, Ask)
                return outcome
            wanted = interval * random.uniform(0.5, 1.0)
            yield from pause(wanted if until is None else min(wanted, until - moment))
            interval = min(interval * 2, _LONGEST_PAUSE)


def _check_patience(exc: TransportError, moment: float, since: float, until: float | None) -> None:
    if until is not None and moment >= until:
        raise WaitTimedOut(
            f"wait: not over in time, and the master has been away for {moment - since:.1f} s ({exc}); the work may "
            "go on, wait again when it is back"
        ) from exc
    if moment - since >= PATIENCE:
        raise type(exc)(
            f"{exc}; the master has been away for over {PATIENCE:g} s. The work may go on: wait again when it is back",
            address=exc.address,
            operation=exc.operation,
        ) from exc
