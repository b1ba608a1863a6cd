"""Submitting: check, stage, record, send, confirm. Every check comes before the first request that changes something."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from titan_sdk.errors import (
    ConnectionLost,
    InvalidDag,
    InvalidJob,
    NotSupported,
    PayloadTooLarge,
    StoreUnavailable,
    SubmissionUnconfirmed,
    TimedOut,
    TransportError,
)
from titan_sdk.flows import owner_lease, staging
from titan_sdk.flows.approvals import gate_values, reset_gates
from titan_sdk.flows.archives import Archive, find_archives, pack_projects, put_archives
from titan_sdk.flows.assets import ensure_asset
from titan_sdk.flows.core import Flow, ask, blocking, pause
from titan_sdk.flows.files import find_inputs
from titan_sdk.flows.liveness import store_answers
from titan_sdk.flows.manifest import Submission, SubmittedJob, records_of, write_records
from titan_sdk.flows.report import JobRef, read_run_state
from titan_sdk.flows.server import cluster_stats, server_info
from titan_sdk.flows.transfer import Progress
from titan_sdk.flows.wait import job_statuses
from titan_sdk.model.dag import order_jobs, outside_parents
from titan_sdk.model.gates import add_gates
from titan_sdk.model.job import TitanJob
from titan_sdk.model.manifest import dashboard_manifest
from titan_sdk.model.rules import full_id, short_id
from titan_sdk.model.server import ServerInfo
from titan_sdk.model.status import JobStatus
from titan_sdk.runtime import keys
from titan_sdk.runtime.gate import GATE_SCRIPT
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls
from titan_sdk.wire.calls import Call
from titan_sdk.wire.frames import MAX_PAYLOAD
from titan_sdk.wire.jobs import JobLine, encode_line

__all__ = ["submit_dag", "submit_expanded"]

_CONFIRM_PAUSES = (0.0, 0.02, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0)


def submit_dag(
    session: Session,
    name: str,
    jobs: Iterable[TitanJob],
    agent_run_id: str | None = None,
    *,
    nonce: str | None = None,
    archives: Mapping[str, Archive] | None = None,
    progress: Progress | None = None,
) -> Flow[Submission]:
    """Send the jobs as one DAG, and confirm that the master took each of them.

    Args:
        nonce: 16 hex digits that name this submission. A caller chooses them to find the submission again after its
            own crash. Default: random.
        archives: the contents of the jobs' archives, by the names that the jobs use; closed when this ends. Any other
            archive is the one that the master has now, and a project's folder is read now.
        progress: called with the progress of archive uploads.

    Raises:
        InvalidDag: the jobs form no valid DAG; nothing was sent.
        RequestRefused: the bundled master refused the whole DAG.
        StoreUnavailable: the master's store does not keep the submission's record now; nothing was sent.
        SubmissionUnconfirmed: the DAG was sent, and its outcome could not be determined.
    """
    given, messages = _with_gates(name, tuple(jobs))
    return (
        yield from submit_expanded(
            session,
            name,
            given,
            messages,
            agent_run_id,
            nonce=nonce,
            archives=archives,
            progress=progress,
        )
    )


def submit_expanded(
    session: Session,
    name: str,
    given: Sequence[TitanJob],
    messages: Mapping[str, str],
    agent_run_id: str | None = None,
    *,
    nonce: str | None = None,
    archives: Mapping[str, Archive] | None = None,
    about_to_send: Callable[[Submission], None] | None = None,
    progress: Progress | None = None,
) -> Flow[Submission]:
    """``submit_dag`` for a list of jobs that already contains their approval gates.

    Args:
        messages: the gates' questions, by gate id.
        about_to_send: called with the submission before it is sent. From then on its jobs may exist, even after an error.
    """
    held = dict(archives or {})
    try:
        return (
            yield from _submit(
                session, name, given, messages, agent_run_id, nonce, held, about_to_send, progress
            )
        )
    finally:
        for archive in held.values():
            if archive.content is not None:
                archive.content.close()


def _submit(
    session: Session,
    name: str,
    given: Sequence[TitanJob],
    messages: Mapping[str, str],
    agent_run_id: str | None,
    nonce: str | None,
    archives: dict[str, Archive],
    about_to_send: Callable[[Submission], None] | None,
    progress: Progress | None,
) -> Flow[Submission]:
    ordered = order_jobs(name, given)
    info = yield from server_info(session)
    staging.check_for_master(info, ordered)
    yield from _check_placement(info, ordered)
    if not info.is_bundled and not (yield from store_answers()):
        # Without its store a real master knows no id, and would accept an id that is in use.
        raise StoreUnavailable(
            f"DAG {name!r}: nothing was submitted, because the master's store does not answer now; try again once "
            "`titan doctor` finds it well"
        )
    kept_parents = yield from _settle_outside_parents(info, name, ordered)
    is_short = "submit" in info.features
    before = {} if is_short else (yield from _states_before(session, name, ordered))
    run = nonce or secrets.token_hex(8)
    yield from pack_projects(session, ordered, archives)
    yield from find_archives(session, ordered, archives)
    inputs = yield from find_inputs(session, ordered, run)
    staged = yield from staging.stage(session, ordered, run, kept_parents, archives, inputs)
    # A real master registers line by line, so a parent listed first may finish before its child exists (section 14).
    lines = [staged.lines[job.full_id] for job in reversed(ordered)]
    call = calls.submit_dag(lines)
    _check_size(name, call, lines, given)
    yield from put_archives(session, archives, progress)
    for asset in staged.assets:
        if asset.sha256 != info.runtime:
            yield from ensure_asset(session, asset.name, asset.data, asset.sha256)
    sent = tuple(_submitted(job, run, staged.inside_parents) for job in given)
    pinned = {key: replace(archive, content=None) for key, archive in archives.items()}
    submission = Submission(name, run, sent, agent_run_id, tuple(given), pinned, staged.scripts)
    if is_short and (whole := _whole(submission, lines, messages)) is not None:
        if about_to_send is not None:
            about_to_send(submission)
        yield from _send_whole(submission, whole)
    else:
        yield from _send_in_steps(session, info, submission, call, messages, before, about_to_send)
    yield from _tell_dashboard(session, submission, lines)
    return submission


def _whole(
    submission: Submission, lines: Sequence[JobLine], messages: Mapping[str, str]
) -> Call[tuple[str, JobStatus] | None] | None:
    """The whole submission as one SUBMIT request; ``None`` if it is over the packet limit."""
    own, values = records_of(submission, plain=False)
    if messages:
        values |= gate_values(messages)
    for job in submission.source:
        if job.owner_lease:
            values[keys.lease_key(job.full_id, submission.run_id)] = owner_lease.renewal()
    call = extended_calls.submit(lines, own, values)
    return call if len(call.payload) <= MAX_PAYLOAD else None


def _send_whole(submission: Submission, call: Call[tuple[str, JobStatus] | None]) -> Flow[None]:
    """Send it again after a lost reply: the master recognizes a submission that it has taken."""
    try:
        refused = yield from ask(call)
    except (ConnectionLost, TimedOut):
        try:
            refused = yield from ask(call)
        except (TransportError, NotSupported) as exc:
            raise SubmissionUnconfirmed(
                f"DAG {submission.name!r} was sent, but no reply came, so nobody knows whether the master took it. Submit "
                f"it again with nonce={submission.run_id!r}, which changes nothing if it did, or ask get_job_status()",
                job_ids=tuple(full_id(job.job_id) for job in submission.jobs),
            ) from exc
    if refused is not None:
        raise _in_use(submission.name, short_id(refused[0]), refused[1])


def _send_in_steps(
    session: Session,
    info: ServerInfo,
    submission: Submission,
    call: calls.Call[str],
    messages: Mapping[str, str],
    before: dict[str, JobStatus],
    about_to_send: Callable[[Submission], None] | None,
) -> Flow[None]:
    """Submit to a master without SUBMIT: the records first, then the jobs, so that no job is without its record."""
    if not before:
        before = yield from _states_before(session, submission.name, submission.source)
    for job in submission.source:
        if job.owner_lease:
            yield from owner_lease.renew(JobRef(job.job_id, submission.run_id))
    yield from reset_gates(messages)
    yield from write_records(submission)
    if about_to_send is not None:
        about_to_send(submission)
    yield from _send(submission, call, before)
    if "strict_submit" not in info.features:
        yield from _confirm(submission, before)


def _with_gates(name: str, jobs: tuple[TitanJob, ...]) -> tuple[tuple[TitanJob, ...], dict[str, str]]:
    if all(getattr(job, "hitl_message", None) is None for job in jobs):
        return jobs, {}
    order_jobs(name, jobs)  # first, so that a refusal names the caller's jobs and no gate
    return add_gates(jobs, str(GATE_SCRIPT))


def _submitted(job: TitanJob, run: str, inside: dict[str, tuple[str, ...]]) -> SubmittedJob:
    return SubmittedJob(job.job_id, run if job.uses_runtime else None, inside[job.full_id])


def _states_before(session: Session, name: str, jobs: Sequence[TitanJob]) -> Flow[dict[str, JobStatus]]:
    """The current state of each id. An id that must not be sent again is refused (hazard 6, section 7)."""
    states = yield from job_statuses(session, [job.full_id for job in jobs])
    for job in jobs:
        if states[job.full_id] in {JobStatus.PENDING, JobStatus.RUNNING, JobStatus.CANCELLED}:
            raise _in_use(name, job.job_id, states[job.full_id])
    return states


def _in_use(name: str, job_id: str, state: JobStatus) -> InvalidDag:
    if state is JobStatus.CANCELLED:
        why = (
            f"the id {job_id!r} was cancelled on this master, and Titan loses the end of the next run of a cancelled "
            "id; use a new id"
        )
    else:
        why = (
            f"job {job_id!r} is {state} on this master from an earlier submission; wait for it, cancel it, or use a "
            "new id"
        )
    return InvalidDag(f"DAG {name!r}: {why}", job_id=job_id, field="job_id")


def _check_size(name: str, call: calls.Call[str], lines: Sequence[JobLine], jobs: Sequence[TitanJob]) -> None:
    size = len(call.encoded())
    if size <= MAX_PAYLOAD:
        return
    largest = max(lines, key=lambda line: sum(map(len, line.fields)))
    alone = sum(map(len, largest.fields))
    if alone <= MAX_PAYLOAD and len(lines) > 1:
        advice = "submit it as several DAGs; Titan cannot take one in parts"
        raise PayloadTooLarge(f"DAG {name!r} with {len(lines)} jobs", size, MAX_PAYLOAD, advice)
    job = next(job for job in jobs if job.job_id == largest.job_id)
    if job.uses_runtime:
        weights = {
            "params": len(json.dumps(staging.params_json(job))),
            "args": sum(map(len, job.argv)),
            "env": sum(map(len, job.variables.values())),
        }
        part = max(weights, key=lambda key: weights[key])
        what = f"its {part} ({weights[part]:,} characters)"
    else:
        what = "its file, which only the runtime (runtime=True) sends separately"
    advice = (
        f"the cause is job {job.job_id!r}: {what}. Put large data into a file (upload_file) or into TitanStore "
        "(store_put), and give the job its name"
    )
    raise PayloadTooLarge(f"DAG {name!r}", size, MAX_PAYLOAD, advice)


def _send(submission: Submission, call: calls.Call[str], before: dict[str, JobStatus]) -> Flow[None]:
    """Send once. After a lost reply the ids' states are asked; the DAG is never sent again (hazard 23)."""
    try:
        yield from ask(call)
    except (ConnectionLost, TimedOut) as exc:
        yield from _settle_lost_reply(submission, before, exc)


def _settle_lost_reply(
    submission: Submission, before: dict[str, JobStatus], cause: TransportError
) -> Flow[None]:
    missing, _ = yield from _look_for(submission, before, accepted=False)
    if missing:
        raise SubmissionUnconfirmed(
            f"DAG {submission.name!r} was sent, but the reply was lost and the master shows no trace of "
            f"{', '.join(map(repr, before))} yet; it may still appear. Ask get_job_status() before submitting again",
            job_ids=tuple(before),
        ) from cause


def _confirm(submission: Submission, before: dict[str, JobStatus]) -> Flow[None]:
    """Check that the master took every job: a real master accepts anything, and only a status is proof (hazard 1)."""
    missing, cause = yield from _look_for(submission, before, accepted=True)
    if missing:
        raise SubmissionUnconfirmed(
            f"DAG {submission.name!r}: the master answered DAG_ACCEPTED but shows no trace of "
            f"{', '.join(repr(j.job_id) for j in missing)}; either it dropped them or its store is down "
            "(`titan doctor` tells which)",
            job_ids=tuple(job.job_id for job in missing),
        ) from cause


def _look_for(
    submission: Submission, before: dict[str, JobStatus], *, accepted: bool
) -> Flow[tuple[list[SubmittedJob], TransportError | None]]:
    """The jobs that the master does not show after some seconds, and the error of the last question.

    Args:
        accepted: whether the master has answered that it took them.
    """
    missing, error = list(submission.jobs), None
    for seconds in _CONFIRM_PAUSES:
        yield from pause(seconds)
        still = []
        try:
            for place, job in enumerate(missing):
                if not (yield from _is_taken(job, before[full_id(job.job_id)], accepted)):
                    still.append(job)
                    if not accepted:
                        still += missing[place + 1 :]
                        break  # most likely no job has arrived, and there may be thousands
        except TransportError as exc:
            # Its text would claim that nothing was sent, which is true of the question and not of the submission.
            error = exc
            continue
        missing, error = still, None
        if not missing:
            break
    return missing, error


def _is_taken(job: SubmittedJob, before: JobStatus, accepted: bool) -> Flow[bool]:
    """Whether the master shows this submission. The state that an id had before proves nothing: the new run of a fast
    job may already have ended, and only the runtime's record tells it from the earlier run.
    """
    state = yield from ask(calls.job_status(job.job_id))
    if state not in {before, JobStatus.UNKNOWN}:
        return True
    if job.nonce is None:
        return accepted and state is not JobStatus.UNKNOWN
    # Also for an id without a state: a real master loses a status that it writes while its store is down.
    return (yield from read_run_state(JobRef(job.job_id, job.nonce))) is not None


# ---------------------------------------------------------------------- checks with the master, before anything is sent


def _check_placement(info: ServerInfo, jobs: Sequence[TitanJob]) -> Flow[None]:
    """Refuse jobs without a worker for their tag, on a master where such a job would delay the others.

    Raises:
        InvalidJob: no live worker has the tag. On a real master the job would delay every other job while it is
            queued. Tags are case-sensitive there.
    """
    if "strict_submit" in info.features:
        return
    stats = yield from cluster_stats()
    for job in jobs:
        if reason := stats.lacks_worker(job.requirement):
            stop = "" if reason.endswith("?") else "."
            raise InvalidJob(
                f"job {job.job_id!r}: requirement {job.requirement!r}: {reason}{stop} On a real Titan such a job would "
                "slow down every other one: correct the tag, or start such a worker first"
            )


def _settle_outside_parents(
    info: ServerInfo, name: str, jobs: Sequence[TitanJob]
) -> Flow[dict[str, tuple[str, ...]]]:
    """The parents to send for each job (full ids).

    The bundled master accepts parents of earlier submissions. A real one waits for ever for a parent that has already
    ended. There a completed parent is left out, and an unfinished one is refused, as it may end before the child is
    registered.

    Raises:
        InvalidDag: a parent is neither in this DAG nor known to the master, or will never complete.
    """
    leave_out: set[str] = set()
    for parent, children in outside_parents(jobs).items():
        state = yield from ask(calls.job_status(parent))
        about = {"job_id": children[0], "field": "parents"}
        named = (
            f"DAG {name!r}: job {children[0]!r} names the parent {parent.removeprefix('DAG-')!r}, which is"
        )
        if state is JobStatus.UNKNOWN:
            raise InvalidDag(
                f"{named} neither in this DAG nor known to the master; add the job or correct the id", **about
            )
        if state in {JobStatus.DEAD, JobStatus.CANCELLED}:
            raise InvalidDag(
                f"{named} {state}, so the job would never run; run the parent again under a new id", **about
            )
        if "completed_parents" in info.features:
            continue
        if state is not JobStatus.COMPLETED:
            raise InvalidDag(
                f"{named} in another DAG and still {state}; a real Titan can miss its end. "
                "Wait for it first, or submit both jobs in one DAG",
                **about,
            )
        leave_out.add(parent)
    return {job.full_id: tuple(p for p in job.parent_ids if p not in leave_out) for job in jobs}


# ---------------------------------------------------------------------- Titan's HTTP dashboard


def _tell_dashboard(session: Session, submission: Submission, lines: Sequence[JobLine]) -> Flow[None]:
    """Pass the submission's manifest to the session's listener, if it has one."""
    if session.on_submitted is None:
        return
    agent_run_id = submission.agent_run_id
    once = {job.job_id for job in submission.jobs if job.nonce}
    replayable = {
        line.job_id: (encode_line(line), encode_line(line._replace(parents=())))
        for line in lines
        if line.job_id not in once
    }
    manifest = dashboard_manifest(
        submission.name,
        {job.job_id: job.parents for job in submission.jobs},
        int(time.time() * 1000),
        agent_run_id=agent_run_id,
        stages=(yield from _stages(submission.name, agent_run_id)) if agent_run_id else (),
        replayable=replayable,
    )
    yield from blocking(partial(session.on_submitted, manifest))


def _stages(dag: str, agent_run_id: str) -> Flow[list[str]]:
    """The DAGs of the run so far, and this one. TitanStore keeps them, as different processes may submit the stages. Two
    that do so at the same instant may overwrite each other's entry.
    """
    key = f"titan:agent_run:{agent_run_id}"
    text = yield from ask(calls.kv_get(key))
    stages = _parse_stages(text)
    if dag not in stages:
        stages.append(dag)
        yield from ask(calls.kv_set(key, json.dumps(stages)))
    return stages


def _parse_stages(text: str | None) -> list[str]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        # Another program's value is under this key. A display must not fail a submit.
        return []
    return [stage for stage in found if isinstance(stage, str)] if isinstance(found, list) else []
