"""Waiting for the end of jobs. A master with WAIT answers at the moment a job ends. Any other master is polled: often
at first, then more and more slowly.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from titan_sdk.errors import DagFailed, JobFailed, NotFound, TLSFailed, TransportError, WaitTimedOut
from titan_sdk.flows.core import STEP_ERRORS, Ask, Flow, FlowRun, Step, ask, now, pause
from titan_sdk.flows.liveness import Pulse, has_record, store_answers
from titan_sdk.flows.report import JobRef, job_report, status_of
from titan_sdk.flows.server import server_info
from titan_sdk.model.dag import upstream_failures
from titan_sdk.model.report import DagReport, JobReport
from titan_sdk.model.rules import full_id, short_id
from titan_sdk.model.status import JobStatus
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls
from titan_sdk.wire.extended_calls import RunReport, WaitAnswer
from titan_sdk.wire.extensions import MAX_WAIT_IDS, MAX_WAIT_SECONDS

__all__ = [
    "PATIENCE",
    "Reconnect",
    "WaitTarget",
    "dag_report",
    "job_statuses",
    "wait_for_dag",
    "wait_for_job",
]

T = TypeVar("T")

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0
_GROWTH = 1.4
_JITTER = (0.7, 1.0)
"""Jitter of the pauses, so that clients that begin to wait together do not poll together."""
_REPORTS = 1000
"""The most runs of one request."""
_SPLIT_SECONDS = 1.0
"""Seconds of the longest WAIT for a part of the jobs: the end of a job in another part does not end it."""
_UNKNOWN_GRACE = 15.0
"""Seconds for which an id must be unknown, with a store that answers, before the wait ends."""
_STORE_PATIENCE = 300.0
"""Seconds for which a wait outlasts a store that is down. A real master answers NULL meanwhile."""
PATIENCE = 120.0
"""Seconds for which a wait outlasts an unreachable master."""
_FIRST_AWAY, _LONGEST_AWAY = 0.25, 5.0
"""Seconds between two attempts meanwhile."""


@dataclass(frozen=True, slots=True)
class WaitTarget:
    """A job to wait for, and the full ids of its parents among the same targets."""

    ref: JobRef
    parents: tuple[str, ...] = ()


def job_statuses(
    session: Session, job_ids: Sequence[str], wait: float = 0.0, nonces: Mapping[str, str] | None = None
) -> Flow[dict[str, JobStatus]]:
    """The states of many jobs, by the given ids. A master with WAIT is asked once for all of them.

    Args:
        wait: seconds for which a master with WAIT may delay its answer until one of the jobs has ended.
        nonces: the submission of each id. A master with WAIT has only one submission of an id at a time.
    """
    if job_ids and (yield from _can_wait(session)):
        seconds = min(wait, MAX_WAIT_SECONDS, session.config.timeout * 0.8)
        states = (yield from _ask_all(job_ids, seconds)).states
        return {job_id: states.get(full_id(job_id), JobStatus.UNKNOWN) for job_id in job_ids}
    found: dict[str, JobStatus] = {}
    for job_id in job_ids:
        found[job_id] = yield from status_of(session, JobRef(job_id, (nonces or {}).get(job_id)))
    return found


def wait_for_job(
    session: Session, ref: JobRef, timeout: float | None = None, raise_on_failure: bool = True
) -> Flow[JobReport]:
    """Wait until the job has ended.

    Raises:
        JobFailed: it ended without success, unless ``raise_on_failure`` is false.
        WaitTimedOut: ``timeout`` seconds have passed; the job goes on.
        NotFound: the master has not known the id for a while.
        TransportError: the master has been unreachable for longer than the wait outlasts.
    """

    def whole() -> Flow[JobReport]:
        states, pulse, found = yield from _until_over(session, (WaitTarget(ref),), timeout)
        report = yield from job_report(
            session, ref, status=states[ref.full_id], patient=True, found=found.get(ref.full_id)
        )
        return _explained(report, ref, pulse)

    report = yield from _outlasting(session, whole(), timeout)
    if raise_on_failure and not report.state.is_success:
        raise JobFailed(report)
    return report


def wait_for_dag(
    session: Session,
    name: str,
    targets: Sequence[WaitTarget],
    timeout: float | None = None,
    raise_on_failure: bool = True,
) -> Flow[DagReport]:
    """Wait until every job has ended, or can never run because a parent failed.

    Raises:
        DagFailed, WaitTimedOut, NotFound, TransportError: as ``wait_for_job``, for the DAG.
    """

    def whole() -> Flow[DagReport]:
        states, pulse, found = yield from _until_over(session, targets, timeout)
        report = yield from dag_report(session, name, targets, states, found)
        refs = [target.ref for target in targets]
        explained = (_explained(job, ref, pulse) for job, ref in zip(report.jobs, refs, strict=True))
        return replace(report, jobs=tuple(explained))

    report = yield from _outlasting(session, whole(), timeout)
    if raise_on_failure and report.failures:
        raise DagFailed(report)
    return report


def dag_report(
    session: Session,
    name: str,
    targets: Sequence[WaitTarget],
    states: dict[str, JobStatus] | None = None,
    found: Mapping[str, RunReport] | None = None,
) -> Flow[DagReport]:
    """The reports of all jobs, in the given order.

    Args:
        states: the jobs' states, and ``found`` the records of their runs, as far as the caller has them.
    """
    patient = states is not None
    if states is None:
        states, found = yield from _look(session, targets)
    refs = {target.ref.full_id: target.ref for target in targets}
    left = yield from _complete(session, refs, found or {})
    blocked = _blocked(targets, states)
    reports = []
    for target in targets:
        causes = tuple(short_id(cause) for cause in blocked.get(target.ref.full_id, ()))
        state = states[target.ref.full_id]
        report = yield from job_report(
            session,
            target.ref,
            status=state,
            patient=patient and not causes,
            found=left.get(target.ref.full_id),
        )
        if causes and not report.state.is_success:
            report = replace(report, upstream_failed=causes)
        reports.append(report)
    return DagReport(name, tuple(reports))


def _look(
    session: Session, targets: Sequence[WaitTarget]
) -> Flow[tuple[dict[str, JobStatus], dict[str, RunReport]]]:
    """The jobs' states now."""
    info = yield from server_info(session)
    if "reports" in info.features:
        refs = {target.ref.full_id: target.ref for target in targets}
        answer = yield from _ask_all(list(refs), 0.0, reports=_nonces(refs))
        return {**dict.fromkeys(refs, JobStatus.UNKNOWN), **answer.states}, answer.reports
    states = {}
    for target in targets:
        states[target.ref.full_id] = yield from status_of(session, target.ref)
    return states, {}


def _complete(
    session: Session, refs: Mapping[str, JobRef], found: Mapping[str, RunReport]
) -> Flow[dict[str, RunReport]]:
    """The records of these jobs' runs, if the master sends them. One answer has no room for thousands."""
    info = yield from server_info(session)
    known = dict(found)
    wanted = _nonces(refs) if "reports" in info.features else {}
    while missing := [job_id for job_id in wanted if job_id not in known][:_REPORTS]:
        reports = {job_id: wanted[job_id] for job_id in missing}
        answer = yield from ask(extended_calls.wait(missing, 0.0, reports=reports))
        if not answer.reports:
            break
        known.update(answer.reports)
    return known


def _nonces(refs: Mapping[str, JobRef]) -> dict[str, str | None]:
    """The runs to ask for, by full id. Jobs without a record are left out."""
    return {job_id: ref.nonce for job_id, ref in refs.items() if not ref.plain}


def _outlasting(session: Session, flow: Flow[T], timeout: float | None) -> Flow[T]:
    until = None if timeout is None else (yield from now()) + timeout
    return (yield from Reconnect(session).outlast(flow, until))


def _until_over(
    session: Session, targets: Sequence[WaitTarget], timeout: float | None
) -> Flow[tuple[dict[str, JobStatus], Pulse, dict[str, RunReport]]]:
    """Wait until no state can change. Returns the states, the reason for each state that differs from the master's
    answer, and the records of the runs that the master has sent.
    """
    started = moment = yield from now()
    pulse = Pulse(session, {target.ref: target.parents for target in targets}, started)
    refs = {target.ref.full_id: target.ref for target in targets}
    states = dict.fromkeys(refs, JobStatus.UNKNOWN)
    found: dict[str, RunReport] = {}
    unknown_since: dict[str, float] = {}
    interval = _FIRST_PAUSE
    while True:
        info = yield from server_info(session)
        left = None if timeout is None else max(started + timeout - moment, 0.0)
        if "wait" in info.features:
            asked = _open(targets, states)
            # The answer must come well before this client's read timeout.
            longest = min(MAX_WAIT_SECONDS, session.config.timeout * 0.8)
            seconds = 0.0 if unknown_since else longest if left is None else min(left, longest)
            wanted = _nonces({job_id: refs[job_id] for job_id in asked}) if "reports" in info.features else {}
            answer = yield from _ask_all(asked, seconds, every=True, reports=wanted)
            states.update(answer.states)
            found.update(answer.reports)
        else:
            for job_id in [job_id for job_id, state in states.items() if not state.is_terminal]:
                states[job_id] = yield from ask(calls.job_status(job_id))
        yield from pulse.prove(states)
        open_ids = _open(targets, states)
        if not open_ids:
            return states, pulse, found
        moment = yield from now()
        yield from _check_known(targets, states, unknown_since, moment)
        left = None if timeout is None else started + timeout - moment
        if left is not None and left <= 0:
            raise _too_late(open_ids, states, timeout)
        if "wait" not in info.features or unknown_since:
            length = interval * random.uniform(*_JITTER)
            yield from pause(length if left is None else min(length, left))
            interval = min(interval * _GROWTH, _LONGEST_PAUSE)
            moment = yield from now()
        yield from pulse.look(states)


def _ask_all(
    job_ids: Sequence[str],
    seconds: float,
    *,
    every: bool = False,
    reports: Mapping[str, str | None] | None = None,
) -> Flow[WaitAnswer]:
    """The states by full id: by one WAIT, or by several for many jobs, of which the last waits for a moment only."""
    states: dict[str, JobStatus] = {}
    found: dict[str, RunReport] = {}
    for start in range(0, len(job_ids), MAX_WAIT_IDS):
        is_last = start + MAX_WAIT_IDS >= len(job_ids)
        is_news = not every and any(state.is_terminal for state in states.values())
        held = 0.0 if not is_last or is_news else min(seconds, _SPLIT_SECONDS) if start else seconds
        part = job_ids[start : start + MAX_WAIT_IDS]
        wanted = {job_id: reports[job_id] for job_id in part if job_id in reports} if reports else {}
        answer = yield from ask(extended_calls.wait(part, held, every=every, reports=wanted))
        states.update(answer.states)
        found.update(answer.reports)
    return WaitAnswer(states, found)


def _can_wait(session: Session) -> Flow[bool]:
    info = yield from server_info(session)
    return "wait" in info.features


def _open(targets: Sequence[WaitTarget], states: dict[str, JobStatus]) -> list[str]:
    """The jobs that may still change."""
    blocked = _blocked(targets, states)
    return [job_id for job_id, state in states.items() if not state.is_terminal and job_id not in blocked]


def _too_late(open_ids: Sequence[str], states: dict[str, JobStatus], timeout: float | None) -> WaitTimedOut:
    shown = ", ".join(f"{short_id(job_id)} {states[job_id]}" for job_id in open_ids[:5])
    more = f" and {len(open_ids) - 5} more" if len(open_ids) > 5 else ""
    return WaitTimedOut(
        f"wait: not over after {timeout:g} s: {shown}{more}; the work goes on, wait again or cancel it"
    )


def _blocked(targets: Sequence[WaitTarget], states: dict[str, JobStatus]) -> dict[str, tuple[str, ...]]:
    """The jobs that wait for a failed parent. A real master leaves them PENDING for ever (section 6)."""
    failed = [job_id for job_id, state in states.items() if state.is_terminal and not state.is_success]
    if not failed:
        return {}
    return upstream_failures({t.ref.full_id: t.parents for t in targets}, failed)


def _check_known(
    targets: Sequence[WaitTarget], states: dict[str, JobStatus], since: dict[str, float], moment: float
) -> Flow[None]:
    """End the wait for an unknown id, once that is certain: NULL can also mean that the store is down."""
    for target in targets:
        job_id = target.ref.full_id
        if states[job_id] is not JobStatus.UNKNOWN:
            since.pop(job_id, None)
            continue
        unknown_for = moment - since.setdefault(job_id, moment)
        if unknown_for <= _UNKNOWN_GRACE:
            continue
        if (yield from store_answers()):
            # Ask once more: the store may have come back between the two answers.
            states[job_id] = yield from ask(calls.job_status(job_id))
            if states[job_id] is JobStatus.UNKNOWN:
                raise (yield from _vanished(target.ref))
        elif unknown_for > _STORE_PATIENCE:
            raise WaitTimedOut(
                f"wait: the master's store has not answered for {_STORE_PATIENCE:g} s, so nobody knows how the job "
                f"{short_id(job_id)!r} stands; it may go on. Wait again once `titan doctor` finds the store well"
            )


def _vanished(ref: JobRef) -> Flow[NotFound]:
    told = (
        "it was submitted there, but its status is gone: the master's store has lost data or was replaced"
        if (yield from has_record(ref))
        else "it was never submitted there"
    )
    return NotFound(
        f"wait: the master has not known the job {short_id(ref.full_id)!r} for {_UNKNOWN_GRACE:g} s and its store "
        f"answers; {told}"
    )


def _explained(report: JobReport, ref: JobRef, pulse: Pulse) -> JobReport:
    reason = pulse.reasons.get(ref.full_id)
    if ref.full_id in pulse.never_ran:
        return replace(report, reason=reason, never_started=True, log_tail="")
    return replace(report, reason=reason) if reason else report


# ---------------------------------------------------------------------- while the master is away


class Reconnect:
    """Outlasts a restart of the master, or a cut connection to it (section 10).

    A question is repeated until the master is back. This is done only after a first answer: a master that has never
    answered is more likely a wrong address, and the first question should report that.
    """

    def __init__(self, session: Session) -> None:
        self._has_answered = session.was_known or session.server is not None

    def outlast(self, flow: Flow[T], until: float | None = None) -> Flow[T]:
        """Run a flow of questions so that it does not notice an outage.

        Args:
            until: the deadline of the wait, by the driver's clock. Default: only the patience with the master ends it.

        Raises:
            WaitTimedOut: the deadline passed while the master was away.
            TransportError: the master was away for longer than ``PATIENCE``.
        """
        try:
            run = FlowRun(flow)
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
        interval = _FIRST_AWAY
        while True:
            try:
                outcome: object = yield step
            except TransportError as exc:
                if not isinstance(step, Ask) or not self._has_answered or isinstance(exc, TLSFailed):
                    raise
                if exc.outcome_unknown and step.call.changes and not step.call.repeatable:
                    raise  # a copy of this request could be a second change
                moment = yield from now()
                since = moment if since is None else since
                _check_patience(exc, moment, since, until)
            else:
                self._has_answered = self._has_answered or isinstance(step, Ask)
                return outcome
            wanted = interval * random.uniform(0.5, 1.0)
            yield from pause(wanted if until is None else min(wanted, until - moment))
            interval = min(interval * 2, _LONGEST_AWAY)


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
