"""Taking over a data directory: queued jobs are queued again, and runs are re-attached or ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from titan_sdk.cluster.engines.base import Process, RunRequest
from titan_sdk.cluster.engines.earlier_version import refuse_live
from titan_sdk.cluster.engines.staging import SERVICES, unstage
from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.master.scheduler import JobSpec, Outcome
from titan_sdk.cluster.master.state import spec_of
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.rows import JobRow
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.jobs import load_line

__all__ = ["recover"]


def recover(master: Master) -> None:
    """Bring a new master to the stored state of the last one. Called once, before all else."""
    store = master.state.store
    rows = store.table.unfinished()
    services = store.table.live_services()
    cancelled = store.table.ended_but_alive()
    refuse_live([*rows, *services, *cancelled], master.data.root)
    _remove_files(master, {row.run for row in (*rows, *services, *cancelled) if row.run is not None})
    if master.pools is None:
        for worker in master.settings.worker_specs():
            master.runs.perform(
                master.state.scheduler.add_worker(worker.name, [worker.tag], master.settings.slots)
            )
    else:
        # The pools have no slots until the engine reports nodes.
        lines = (load_line(row.job_id, store.line(row.seq)) for row in (*rows, *services, *cancelled))
        master.pools.cover({line.requirement for line in lines})
    _end_cancelled(master, cancelled)
    running = [row for row in rows if row.status is JobStatus.RUNNING]
    for row in running:
        # Running jobs come first: they may be parents of waiting ones.
        spec = _spec(master, row)
        host, place = _where(master, row, spec.tag)
        master.state.scheduler.adopt(dataclasses.replace(spec, parents=()), host, row.attempts, place)
    # The last master may have been killed between a submission and the removal of the log of the id's earlier run.
    master.state.begin_logs(row.job_id for row in rows if row.status is JobStatus.PENDING and row.run is None)
    waiting = [_spec(master, row) for row in rows if row.status is JobStatus.PENDING]
    master.runs.perform(
        master.state.scheduler.submit(waiting, master.state.settled, master.state.clock.now())
    )
    for row in running:
        _resume(master, row)
    for row in services:
        _resume_service(master, row, up=True)


def _where(master: Master, row: JobRow, tag: str) -> tuple[str, str | None]:
    """The worker with the job's slot, and the place behind it if the worker is a pool."""
    worker = row.worker or ""
    if master.pools is None:
        return worker, None
    return tag, None if worker == tag else worker


def _spec(master: Master, row: JobRow) -> JobSpec:
    line = load_line(row.job_id, master.state.store.line(row.seq))
    # The clock may have been set back meanwhile: no job may wait longer than its delay.
    submitted_at = min(row.submitted_at, master.state.clock.now())
    return dataclasses.replace(
        spec_of(line, row.seq, submitted_at, row.attempts),
        # A parent whose id was used again has completed; otherwise this child would be DEAD.
        parents=tuple(parent for parent, seq in row.parents if _number(master.state.store, parent) == seq),
    )


def _number(store: Store, job_id: str) -> int:
    row = store.job(job_id)
    return -1 if row is None else row.seq


def _resume(master: Master, row: JobRow) -> None:
    """Continue a job that was running, by its row."""
    job = master.state.scheduler.jobs.get(row.job_id)
    if job is not None and job.spec.service and row.handle is not None:
        _resume_service(master, row, up=False)
        return
    if row.handle is None or row.run is None:
        reason = "the master was stopped before the run could be watched"
        effects = master.state.scheduler.exited(
            row.job_id, Outcome.INTERRUPTED, reason, master.state.clock.now()
        )
        master.runs.perform(effects)
        return
    line = load_line(row.job_id, master.state.store.line(row.seq))
    master.runs.take_over(RunRequest(row.run, line, row.worker or "", row.attempts), row.seq, row.handle)


def _resume_service(master: Master, row: JobRow, *, up: bool) -> None:
    line = load_line(row.job_id, master.state.store.line(row.seq))
    left = None
    if row.handle is not None and row.run is not None:
        left = Process(RunRequest(row.run, line, row.worker or "", row.attempts), row.handle)
    master.runs.resume_service(line, row.seq, row.worker or "", up=up, left=left)


def _end_cancelled(master: Master, cancelled: Collection[JobRow]) -> None:
    """End cancelled jobs whose processes the last master had not seen to the end. Their slots are taken until then."""
    for row in cancelled:
        if row.handle is None or row.run is None:
            continue
        line = load_line(row.job_id, master.state.store.line(row.seq))
        holds_slot = line.header not in SERVICES
        if holds_slot:
            master.state.scheduler.adopt_stopping(row.job_id, _where(master, row, line.requirement)[0])
        request = RunRequest(row.run, line, row.worker or "", row.attempts)
        master.runs.finish_off(request, row.seq, row.handle, holds_slot=holds_slot)


def _remove_files(master: Master, keep: Collection[str]) -> None:
    """Remove the files of runs that ended while no master was there."""
    master.runs.final_records.keep_only(keep)
    for staged in master.data.workers.glob("*/titan_workspace/.runs/*"):
        if staged.name not in keep:
            unstage(staged)
