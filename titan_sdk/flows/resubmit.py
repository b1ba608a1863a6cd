"""Submits jobs again, under new ids, that a master gave up without starting them (section 14)."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from dataclasses import dataclass, field, replace
from functools import partial

from titan_sdk.errors import DagFailed, InvalidArgument, JobFailed, SubmissionUnconfirmed, TitanError
from titan_sdk.flows.cancel import cancel_job
from titan_sdk.flows.core import Flow, blocking, now, pause
from titan_sdk.flows.manifest import Submission, SubmittedJob, write_manifest
from titan_sdk.flows.report import JobRef, status_of
from titan_sdk.flows.server import server_info
from titan_sdk.flows.submit import submit_expanded
from titan_sdk.flows.wait import WaitTarget, wait_for_dag, wait_for_job
from titan_sdk.model import files
from titan_sdk.model.gates import renamed_gate
from titan_sdk.model.job import TitanJob
from titan_sdk.model.report import DagReport, JobReport
from titan_sdk.model.rules import full_id
from titan_sdk.model.status import JobStatus
from titan_sdk.session import Session

__all__ = ["Track", "wait_for_tracked_dag", "wait_for_tracked_job"]

_AGAIN = re.compile(r"-again\d+$")


@dataclass
class Track:
    """A submission that may continue under new ids. The handles of its jobs share it."""

    submission: Submission
    is_taken: bool = False
    """Whether a thread is submitting again."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ref(self, index: int) -> JobRef:
        """The latest submission of the job."""
        return _ref(self.submission.jobs[index])

    def targets(self) -> list[WaitTarget]:
        """The jobs as targets of the wait flows."""
        return [WaitTarget(_ref(job), job.parents) for job in self.submission.jobs]

    def take(self, seen: Submission) -> bool:
        """Whether the caller submits again. Of several waiting threads, one does."""
        with self._lock:
            if self.is_taken or self.submission is not seen:
                return False
            self.is_taken = True
            return True

    def release(self) -> None:
        """End what ``take`` began, so that another thread may submit again."""
        self.is_taken = False

    def named(self, report: JobReport) -> JobReport:
        """The report under the id of the first submission."""
        wanted = full_id(report.job_id)
        first = next((j.first_id for j in self.submission.jobs if full_id(j.job_id) == wanted), None)
        return replace(report, resubmitted_from=first) if first else report


def wait_for_tracked_job(
    session: Session, track: Track, index: int, timeout: float | None, raise_on_failure: bool, resubmits: int
) -> Flow[JobReport]:
    """``wait_for_job``, which submits a job that was never started again, up to ``resubmits`` times."""
    started = 0.0 if timeout is None else (yield from now())
    report = track.named(
        (yield from wait_for_job(session, track.ref(index), timeout, raise_on_failure=False))
    )
    if report.never_started and resubmits > 0:
        # Its descendants must be submitted with it, which is possible once no other job of the DAG can change.
        left = None if timeout is None else max(started + timeout - (yield from now()), 0.0)
        report = (yield from wait_for_tracked_dag(session, track, left, False, resubmits)).jobs[index]
    if raise_on_failure and not report.state.is_success:
        raise JobFailed(report)
    return report


def wait_for_tracked_dag(
    session: Session, track: Track, timeout: float | None, raise_on_failure: bool, resubmits: int
) -> Flow[DagReport]:
    """``wait_for_dag``, which submits jobs that were never started again, together with their descendants."""
    until = None if timeout is None else (yield from now()) + timeout
    while True:
        left = None if until is None else max(until - (yield from now()), 0.0)
        before = track.submission
        report = yield from wait_for_dag(session, before.name, track.targets(), left, raise_on_failure=False)
        report = replace(report, jobs=tuple(map(track.named, report.jobs)))
        ids = _to_repeat(before, report)
        if ids and resubmits > 0 and (yield from _continue(session, track, before, ids)):
            resubmits -= 1
            continue
        if raise_on_failure and report.failures:
            raise DagFailed(report)
        return report


def _to_repeat(submission: Submission, report: DagReport) -> set[str]:
    """Full ids of the jobs that were never started and of their descendants, except those below another failure."""
    lost: set[str] = set()
    failed: set[str] = set()
    for job in report.failures:
        if not job.upstream_failed:
            (lost if job.never_started else failed).add(full_id(job.job_id))
    return _with_descendants(submission, lost) - _with_descendants(submission, failed)


def _continue(session: Session, track: Track, before: Submission, ids: set[str]) -> Flow[bool]:
    """Submit these jobs again. Returns whether that was possible."""
    info = yield from server_info(session)
    if not before.source or "strict_submit" in info.features:
        # A DAG followed by name has no scripts here. The bundled master gives up no job that could run.
        return False
    if (yield from blocking(partial(_have_changed, before))):
        return False  # the script has changed: this would run other code than was submitted
    if not track.take(before):
        while track.submission is before and track.is_taken:
            yield from pause(0.2)
        return True
    sent: list[Submission] = []
    try:
        jobs, messages, first = _renamed(before, ids)
        for job in before.jobs:
            # Otherwise a real master would run the waiting jobs without their parents after its next restart (section 10).
            if full_id(job.job_id) in ids and (yield from status_of(session, _ref(job))) is JobStatus.PENDING:
                yield from cancel_job(session, _ref(job))
        name = f"{before.name}-again"
        yield from submit_expanded(
            session,
            name,
            jobs,
            messages,
            before.agent_run_id,
            archives=before.archives,
            about_to_send=sent.append,
        )
    except InvalidArgument:
        return False  # an id has no room for a suffix, or a script is gone; the report says enough
    except BaseException as exc:
        if sent and getattr(exc, "outcome_unknown", True):
            # They may run, so the next wait waits for them and does not send them once more.
            track.submission = _merged(before, sent[0], ids, first)
        if isinstance(exc, SubmissionUnconfirmed):
            with contextlib.suppress(TitanError):
                yield from write_manifest(track.submission)
        raise
    else:
        track.submission = _merged(before, sent[0], ids, first)
        yield from write_manifest(track.submission)
    finally:
        track.release()
    return True


def _have_changed(submission: Submission) -> bool:
    """Whether a script file differs from the submitted one."""
    for name, digest in submission.scripts.items():
        try:
            with open(name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return True
        except OSError:
            return True
    return False


def _with_descendants(submission: Submission, lost: set[str]) -> set[str]:
    ids = set(lost)
    size = 0
    while size != len(ids):
        size = len(ids)
        ids |= {full_id(job.job_id) for job in submission.jobs if ids & set(job.parents)}
    return ids


def _renamed(submission: Submission, ids: set[str]) -> tuple[list[TitanJob], dict[str, str], dict[str, str]]:
    """The jobs under new ids, the questions of their gates, and the old id of each new one (full ids)."""
    source = [job for job in submission.source if job.full_id in ids]
    new = {job.full_id: _next_id(job.job_id) for job in source}
    jobs: list[TitanJob] = []
    messages: dict[str, str] = {}
    for job in source:
        parents = [new.get(full_id(p), p) for p in job.parents or ()]
        inputs = files.renamed(job.inputs or {}, lambda name: new.get(full_id(name), name))
        again = replace(
            renamed_gate(job, new[job.full_id]), parents=parents, inputs=inputs, hitl_message=None
        )
        if again.args != job.args:
            messages[again.job_id] = again.argv[2]
        jobs.append(again)
    return jobs, messages, {full_id(now): old for old, now in new.items()}


def _next_id(job_id: str) -> str:
    found = _AGAIN.search(job_id)
    count = int(found.group()[len("-again") :]) + 1 if found else 1
    return f"{_AGAIN.sub('', job_id)}-again{count}"


def _merged(before: Submission, part: Submission, ids: set[str], first: dict[str, str]) -> Submission:
    """The submission, with the old jobs replaced by the new ones."""
    renamed = {old: job for job in part.jobs for old in (first[full_id(job.job_id)],)}
    jobs: list[SubmittedJob] = []
    for job in before.jobs:
        again = renamed.get(full_id(job.job_id))
        if again is None:
            jobs.append(job)
            continue
        new_of = {old: full_id(fresh.job_id) for old, fresh in renamed.items()}
        parents = tuple(new_of.get(p, p) for p in job.parents)
        jobs.append(replace(again, parents=parents, first_id=job.first_id or job.job_id))
    kept = [job for job in before.source if job.full_id not in ids]
    return replace(before, jobs=tuple(jobs), source=(*kept, *part.source))


def _ref(job: SubmittedJob) -> JobRef:
    return JobRef(job.job_id, job.nonce, plain=job.nonce is None)
