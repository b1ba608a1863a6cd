"""The report of a job, from the master's state and the record that the job's runtime keeps in TitanStore."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from titan_sdk.errors import CorruptData, NotFound, ResultUnavailable
from titan_sdk.flows.core import Flow, ask, pause
from titan_sdk.flows.server import server_info
from titan_sdk.model.report import JobReport, RemoteException
from titan_sdk.model.rules import full_id
from titan_sdk.model.status import JobStatus
from titan_sdk.runtime import keys, reader
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls
from titan_sdk.wire.extended_calls import RunReport

__all__ = [
    "JobRecord",
    "JobRef",
    "job_report",
    "job_result",
    "own_status",
    "read_job_record",
    "read_run_state",
    "resolve_nonce",
    "status_of",
]

_SAYS = "titan-runtime: "
"""Begins the launcher's own lines in a log."""
_STALE = 300.0
"""Seconds after which a silent runtime counts as gone, if the master says that the job has ended. The runtime renews its
record every 5 s; the rest allows for clocks that differ.
"""
_LATE_LINES = 2.5
"""Seconds after a job's end for which a real worker may still deliver lines (section 8.3)."""


@dataclass(frozen=True, slots=True)
class JobRef:
    """A job, and its submission if that is known."""

    job_id: str
    nonce: str | None = None
    plain: bool = False
    """Whether the job is known to have no runtime. It then has no record to read."""
    full_id: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "full_id", full_id(self.job_id))


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The record that a submit writes before it sends a job."""

    nonce: str | None
    """``None`` for a job without the runtime."""
    service: bool = False
    due_at: float | None = None
    """The earliest start in Unix seconds, by the submitter's clock; only for jobs without the runtime."""
    parents: tuple[str, ...] = ()
    """Full ids; only together with ``due_at``."""

    def to_json(self) -> dict[str, object]:
        """The stored form."""
        fields: dict[str, object] = {"nonce": self.nonce, "runtime": self.nonce is not None}
        if self.service:
            fields["service"] = True
        if self.due_at is not None:
            fields |= {"due_at": self.due_at, "parents": list(self.parents)}
        return fields


def read_job_record(job_id: str) -> Flow[JobRecord | None]:
    """The record of the id's latest submission by this SDK; ``None`` if there is none, or the store is down."""
    key = keys.job_key(full_id(job_id))
    text = yield from ask(calls.kv_get(key))
    if text is None:
        return None
    try:
        found = json.loads(text)
        return JobRecord(
            found["nonce"],
            bool(found.get("service")),
            found.get("due_at"),
            tuple(found.get("parents", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CorruptData(f"TitanStore key {key!r} holds {text[:80]!r}, which is no job record") from exc


def resolve_nonce(ref: JobRef) -> Flow[JobRef]:
    """The reference with the nonce of the id's latest submission, if that has one."""
    if ref.nonce or ref.plain:
        return ref
    record = yield from read_job_record(ref.job_id)
    if record is None:
        return ref
    return replace(ref, nonce=record.nonce, plain=record.nonce is None)


def read_run_state(ref: JobRef) -> Flow[reader.RunState | None]:
    """The runtime's record. ``None`` before the launcher's claim, and for a job without the runtime."""
    if not ref.nonce:
        return None
    text = yield from ask(calls.kv_get(keys.state_key(ref.full_id, ref.nonce)))
    return None if text is None else reader.parse_state(text)


def own_status(word: JobStatus, state: reader.RunState | None, *, trusted: bool) -> JobStatus:
    """The state of one submission, from the master's state for its id and the submission's own record.

    A real master keeps one state per id, and believes every report of an end (sections 2.1 and 6), so its state may
    belong to another submission. A completion therefore counts only if the submission's own record confirms it.

    Args:
        trusted: whether the master is the bundled one, where only one submission at a time uses an id.
    """
    if trusted and word is JobStatus.CANCELLED:
        return word
    if state is not None and state.succeeded and (word.is_terminal or word is JobStatus.UNKNOWN):
        return JobStatus.COMPLETED
    if state is not None and state.ended:
        if word in {JobStatus.COMPLETED, JobStatus.DEAD, JobStatus.UNKNOWN}:
            return JobStatus.CANCELLED if state.cancelled else JobStatus.DEAD
        return JobStatus.CANCELLED if state.cancelled else word
    if trusted or word in {JobStatus.PENDING, JobStatus.RUNNING, JobStatus.CANCELLED}:
        return word
    if state is not None:
        return JobStatus.RUNNING if time.time() - state.heartbeat_at < _STALE else JobStatus.DEAD
    return JobStatus.PENDING if word is JobStatus.COMPLETED else word


def status_of(session: Session, ref: JobRef) -> Flow[JobStatus]:
    """``own_status`` with few requests: one, as long as the master does not say that the job has ended."""
    word = yield from ask(calls.job_status(ref.job_id))
    if not ref.nonce or word in {JobStatus.PENDING, JobStatus.RUNNING}:
        return word
    info = yield from server_info(session)
    return own_status(word, (yield from read_run_state(ref)), trusted=info.is_bundled)


def job_report(
    session: Session,
    ref: JobRef,
    *,
    status: JobStatus | None = None,
    with_result: bool = True,
    patient: bool = False,
    found: RunReport | None = None,
) -> Flow[JobReport]:
    """The job's report, in one to a few requests.

    Args:
        status: the job's state, and ``found`` the record of its run, as far as the caller has them.
        patient: whether to wait for late log lines of a job without a record. Without lines it counts as never started.
    """
    info = yield from server_info(session)
    is_known = status is not None
    if found is None and "reports" in info.features and not ref.plain:
        answer = yield from ask(extended_calls.wait([ref.job_id], 0.0, reports={ref.full_id: ref.nonce}))
        found = answer.reports.get(ref.full_id)
        status = answer.states.get(ref.full_id, JobStatus.UNKNOWN) if status is None else status
    if found is not None:
        ref = replace(ref, nonce=found.nonce, plain=found.nonce is None)
        state = None if found.record is None else reader.parse_state(found.record)
    else:
        ref = yield from resolve_nonce(ref)
    word = (yield from ask(calls.job_status(ref.job_id))) if status is None else status
    if found is None:
        state = yield from read_run_state(ref)
    if ref.nonce and (not is_known or (state is not None and state.ended)):
        status = own_status(word, state, trusted=info.is_bundled)
    else:
        status = word
    if state is None:
        return (yield from _mute_report(session, ref, status, patient))
    report = JobReport(
        job_id=ref.job_id,
        state=status,
        exit_code=state.exit_code,
        signal=state.signal,
        attempts=state.attempt,
        worker=state.worker,
        started_at=state.started_at,
        ended_at=state.ended_at,
        exception=_exception(state),
        reason=_reason(state, status),
        progress=state.progress,
        outputs=state.outputs,
        environment_seconds=state.environment_seconds,
        has_result=state.result is not None,
    )
    if report.has_result and with_result and status is JobStatus.COMPLETED:
        received = yield from _read_result(ref, state)
        report = replace(report, result=_opened(received), received=received)
    if status is JobStatus.DEAD:
        tail = None if found is None else found.tail
        report = replace(report, log_tail=(yield from _log_tail(ref, state)) if tail is None else tail)
    return report


def job_result(
    session: Session, ref: JobRef, allowed_classes: Iterable[type | str] = (), serializer: str = "json"
) -> Flow[object]:
    """What the job gave to ``titan_job.result``.

    Raises:
        NotFound: the master does not know the id.
        ResultUnavailable: the job has not completed, or left no result.
        UnreadableValue: it holds an object of a class that is not allowed, or needs a package that is not here.
    """
    report = yield from job_report(session, ref)
    if report.state is JobStatus.UNKNOWN:
        raise NotFound(f"result: the master does not know the job {ref.job_id!r}")
    if report.state is not JobStatus.COMPLETED:
        raise ResultUnavailable(f"result: {report.describe()}; a result exists once the job has completed")
    if not report.has_result:
        raise ResultUnavailable(
            f"result: job {ref.job_id!r} completed without one; call titan_job.result(value) in the script"
        )
    from titan_sdk.values import load  # only where there is a result

    return load(
        report.received,
        allowed_classes=allowed_classes,
        serializer=serializer,
        where=f"result of job {ref.job_id!r}",
    )


def _opened(received: object) -> object:
    if not isinstance(received, dict):
        return received
    from titan_sdk.values import opened  # only where there may be something to open

    return opened(received)


def _read_result(ref: JobRef, state: reader.RunState) -> Flow[object]:
    assert ref.nonce is not None
    assert state.result is not None
    if state.result.text is not None:
        return reader.load_result(state.result, state.result.text)
    slices: list[str] = []
    for index in range(state.result.chunks):
        key = keys.result_key(ref.full_id, ref.nonce, index)
        text = yield from ask(calls.kv_get(key))
        if text is None:
            raise CorruptData(
                f"result of job {ref.job_id!r}: part {index + 1} of {state.result.chunks} is missing in TitanStore"
            )
        slices.append(reader.parse_result_slice(text))
    return reader.load_result(state.result, "".join(slices))


def _log_tail(ref: JobRef, state: reader.RunState, lines: int = 20) -> Flow[str]:
    """The end of the output, from the runtime's last chunks or the master's log."""
    text = ""
    if state.log_chunks and ref.nonce and not state.logs_to_master:
        for index in range(state.log_chunks - 1, -1, -1):
            chunk = yield from ask(calls.kv_get(keys.log_key(ref.full_id, ref.nonce, index)))
            text = (reader.parse_log_chunk(chunk).text if chunk else "") + text
            if text.count("\n") > lines:
                break
    else:
        text = yield from ask(calls.get_logs(ref.job_id))
    return "\n".join(text.splitlines()[-lines:])


def _exception(state: reader.RunState) -> RemoteException | None:
    found = state.exception
    return RemoteException(found.type, found.message, found.traceback) if found else None


def _mute_report(session: Session, ref: JobRef, status: JobStatus, patient: bool) -> Flow[JobReport]:
    """The report of a job without a record. A real master gives up jobs unstarted when it is saturated, or when a worker
    has just died (section 5.2). A launcher that could start nothing says why in the log.
    """
    report = JobReport(ref.job_id, status)
    if not ref.nonce or status is not JobStatus.DEAD:
        return report
    text = yield from ask(calls.get_logs(ref.job_id))
    if not text and patient:
        yield from pause(_LATE_LINES)
        text = yield from ask(calls.get_logs(ref.job_id))
    if text:
        told = [line for line in text.splitlines() if line.startswith(_SAYS)]
        reason = told[-1].removeprefix(_SAYS) if told else "it left no record, but a log"
        return replace(report, reason=reason, log_tail="\n".join(text.splitlines()[-20:]))
    # The missing record proves something only if the store can be read. This value was written before the submit.
    if (yield from ask(calls.kv_get(keys.job_key(ref.full_id)))) is None:
        return replace(report, reason="it left no record, and the master's store does not answer")
    if (yield from read_run_state(ref)) is not None:
        return (yield from job_report(session, ref, status=status))
    return replace(report, never_started=True)


def _reason(state: reader.RunState, status: JobStatus) -> str | None:
    if status is JobStatus.DEAD and not state.ended:
        return "its runtime ended without a final record: killed from outside, or its worker was lost"
    return state.reason
