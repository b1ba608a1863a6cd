"""The scheduler: events in, effects out.

Rules for editing: no I/O, no clock, no randomness (times are arguments). Every event is O(log n) per job that it touches.
Only this module changes a job's phase. The performer of an effect reports back with another event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from titan_sdk.cluster.master.scheduler.jobs import (
    Effect,
    Ended,
    Job,
    JobSpec,
    Kill,
    Outcome,
    Phase,
    Requeued,
    SettledLookup,
    Start,
)
from titan_sdk.cluster.master.scheduler.queues import DelayQueue, ReadyQueues, Worker, Workers
from titan_sdk.model.status import JobStatus

__all__ = ["Scheduler"]


class Scheduler:
    """The unfinished jobs and their workers. Finished jobs are forgotten; the store keeps them."""

    def __init__(self, ageing: float | None = None) -> None:
        self.ageing = ageing
        """Seconds of waiting, while ready, that count as one priority; ``None``: waiting does not count. A change applies
        to jobs that become ready later."""
        self.workers = Workers()
        self.jobs: dict[str, Job] = {}
        """The unfinished jobs by id. Only this class changes them."""
        self._ready = ReadyQueues()
        self._ready_services = ReadyQueues()
        self._delayed = DelayQueue()
        self._stopping: dict[str, str] = {}
        """The cancelled jobs whose processes still live, each with the worker of its slot."""
        self._held = False

    # ------------------------------------------------------------------ reading

    def __len__(self) -> int:
        return len(self.jobs)

    def is_stopping(self, job_id: str) -> bool:
        """Whether the job was cancelled and its process is still being ended."""
        return job_id in self._stopping

    def next_due(self) -> float | None:
        """The time of the next ``tick`` with work, or ``None``."""
        return self._delayed.next_due()

    def queue_lengths(self) -> dict[str, int]:
        """The number of ready jobs by tag, including tags without a worker. Delayed and waiting jobs are not counted."""
        lengths = self._ready.lengths()
        for tag, count in self._ready_services.lengths().items():
            lengths[tag] = lengths.get(tag, 0) + count
        return lengths

    def ahead_of(self, job: Job) -> int:
        """The number of ready jobs of the same tag before this one. It visits all of them: only for questions of people."""
        return self._queues_of(job).ahead_of(job)

    @property
    def delayed(self) -> int:
        return len(self._delayed)

    # ------------------------------------------------------------------ events

    def submit(self, specs: Sequence[JobSpec], settled: SettledLookup, now: float) -> list[Effect]:
        """Take checked jobs: ids free, parents known, no cycle.

        A parent that completed earlier counts as completed; one that ended otherwise makes the job DEAD at once.

        Args:
            settled: looks up the end of a job that is neither in this batch nor unfinished.
        """
        effects: list[Effect] = []
        batch = [Job(spec) for spec in specs]
        for job in batch:
            if job.job_id in self.jobs:
                raise ValueError(f"{job.job_id!r} is unfinished already")
            self.jobs[job.job_id] = job
        doomed: list[tuple[Job, str]] = []
        for job in batch:
            reason = self._link(job, settled)
            if reason is not None:
                doomed.append((job, reason))
        for job, reason in doomed:
            self._end(job, JobStatus.DEAD, reason, effects)
        for job in batch:
            if job.phase is Phase.WAITING and not job.missing:
                self._make_ready(job, now)
        self._dispatch(effects)
        return effects

    def adopt(self, spec: JobSpec, worker: str, attempt: int, place: str | None = None) -> None:
        """Take over a job whose run is already alive, after a restart of the master."""
        job = Job(spec)
        job.phase, job.worker, job.attempt, job.place = Phase.RUNNING, worker, attempt, place
        self.jobs[job.job_id] = job
        host = self.workers.get(worker)
        job.pooled = host is not None and host.pool
        if host is not None and not spec.service:
            host.busy.add(job.job_id)

    def adopt_stopping(self, job_id: str, worker: str) -> None:
        """Take over a cancelled job whose run is still being ended, after a restart of the master."""
        host = self.workers.get(worker)
        if host is not None:
            host.busy.add(job_id)
        self._stopping[job_id] = worker

    def placed(self, job_id: str, place: str) -> None:
        """A run of a pool has begun at one of its places."""
        job = self.jobs.get(job_id)
        if job is not None and job.phase is Phase.RUNNING:
            job.place = place

    def exited(
        self, job_id: str, outcome: Outcome, reason: str | None, now: float, code: int | None = None
    ) -> list[Effect]:
        """The job's run has ended, and its slot is free."""
        effects: list[Effect] = []
        stopping_on = self._stopping.pop(job_id, None)
        if stopping_on is not None:
            self._release(stopping_on, job_id)
        else:
            job = self.jobs.get(job_id)
            if job is None or job.phase is not Phase.RUNNING:
                return effects
            assert job.worker is not None
            self._release(job.worker, job_id)
            self._conclude(job, outcome, reason, now, code, effects)
        self._dispatch(effects)
        return effects

    def cancel(self, job_id: str) -> list[Effect]:
        """End an unfinished job; its descendants become DEAD. No effect for other ids."""
        effects: list[Effect] = []
        job = self.jobs.get(job_id)
        if job is None:
            return effects
        if job.phase is Phase.RUNNING:
            assert job.worker is not None
            self._stopping[job_id] = job.worker
            effects.append(Kill(job_id))
        self._end(job, JobStatus.CANCELLED, "cancelled by a client", effects)
        self._dispatch(effects)
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Time has passed."""
        effects: list[Effect] = []
        for job in self._delayed.pop_due(now):
            self._enqueue(job, job.spec.due)
        self._dispatch(effects)
        return effects

    def hold(self) -> None:
        """Start nothing more: the master is stopping."""
        self._held = True

    def add_worker(self, name: str, tags: Iterable[str], slots: int, *, pool: bool = False) -> list[Effect]:
        """Add a worker, or a pool of places."""
        effects: list[Effect] = []
        self.workers.add(name, tags, slots, pool=pool)
        self._dispatch(effects)
        return effects

    def resize_worker(self, name: str, slots: int) -> list[Effect]:
        """Set a worker's number of slots. Running jobs beyond it go on."""
        effects: list[Effect] = []
        worker = self.workers.get(name)
        if worker is not None and worker.slots != slots:
            worker.slots = slots
            self._dispatch(effects)
        return effects

    def remove_worker(self, name: str) -> list[Effect]:
        """Remove a worker. Its runs are killed, and count as failed."""
        worker = self.workers.remove(name)
        if worker is None:
            return []
        return [Kill(job_id) for job_id in sorted(worker.busy) if job_id not in self._stopping]

    # ------------------------------------------------------------------ transitions

    def _link(self, job: Job, settled: SettledLookup) -> str | None:
        """Link a new job to its parents. Returns a sentence if one of them can never complete."""
        for parent_id in dict.fromkeys(job.spec.parents):
            parent = self.jobs.get(parent_id)
            if parent is not None:
                parent.children.append(job)
                job.missing += 1
                continue
            past = settled(parent_id)
            if past is None:
                # A large submission takes seconds; the parent may have been forgotten meanwhile.
                return f"its parent {parent_id} is not known any more"
            if past.status is not JobStatus.COMPLETED:
                return f"its parent {parent_id} ended {past.status}"
            if job.spec.affinity and job.tied_to is None:
                job.tied_to = past.worker
        return None

    def _make_ready(self, job: Job, now: float) -> None:
        if job.spec.due > now:
            job.phase = Phase.DELAYED
            self._delayed.push(job)
        else:
            self._enqueue(job, now)

    def _enqueue(self, job: Job, now: float) -> None:
        job.phase = Phase.READY
        if job.ready_since is None:
            job.ready_since = now
        if self.ageing is not None:
            # priority + waited / ageing grows equally fast for all jobs, so their order never changes.
            job.rank = (job.ready_since - job.spec.priority * self.ageing, job.spec.seq)
        self._queues_of(job).push(job)

    def _queues_of(self, job: Job) -> ReadyQueues:
        return self._ready_services if job.spec.service else self._ready

    def _dispatch(self, effects: list[Effect]) -> None:
        """Start all that can start: services at once, jobs by rank over all tags with a free slot."""
        if self._held:
            return
        while self._ready_services.by_tag and (found := self._ready_services.take_service(self.workers)):
            self._start(*found, effects)
        while self._ready.by_tag and (found := self._ready.take(self.workers)):
            job, worker = found
            worker.busy.add(job.job_id)
            self._start(job, worker, effects)

    def _start(self, job: Job, worker: Worker, effects: list[Effect]) -> None:
        job.phase = Phase.RUNNING
        job.worker, job.pooled, job.place = worker.name, worker.pool, None
        job.attempt += 1
        effects.append(Start(job.job_id, worker.name, job.attempt, job.tied_to))

    def _release(self, worker_name: str, job_id: str) -> None:
        worker = self.workers.get(worker_name)
        if worker is not None:
            worker.busy.discard(job_id)

    def _conclude(
        self,
        job: Job,
        outcome: Outcome,
        reason: str | None,
        now: float,
        code: int | None,
        effects: list[Effect],
    ) -> None:
        if outcome is Outcome.SUCCESS:
            self._end(job, JobStatus.COMPLETED, reason, effects, now, code)
        elif outcome is Outcome.INTERRUPTED or (
            outcome is Outcome.FAILURE and job.attempt < job.spec.max_runs
        ):
            if outcome is Outcome.INTERRUPTED:
                job.attempt -= 1
            why = reason or "the run failed"
            effects.append(Requeued(job.job_id, job.spec.seq, job.attempt, why, code))
            self._enqueue(job, now)
        else:
            self._end(job, JobStatus.DEAD, reason, effects, now, code)

    def _end(
        self,
        job: Job,
        status: JobStatus,
        reason: str | None,
        effects: list[Effect],
        now: float = 0.0,
        code: int | None = None,
    ) -> None:
        """End a job and its affected descendants. A loop, because chains may be thousands of jobs long."""
        pending: list[tuple[Job, JobStatus, str | None]] = [(job, status, reason)]
        while pending:
            ended, how, why = pending.pop()
            if ended.phase is Phase.ENDED:
                continue
            was, ended.phase = ended.phase, Phase.ENDED
            if was is Phase.READY:
                self._queues_of(ended).forget(ended.spec.tag)
            elif was is Phase.DELAYED:
                self._delayed.forget()
            del self.jobs[ended.job_id]
            own = code if ended is job else None
            ran = was is Phase.RUNNING
            effects.append(Ended(ended.job_id, ended.spec.seq, how, ended.ran_on, why, ran, own))
            if how is JobStatus.COMPLETED:
                self._release_children(ended, now)
            else:
                news = f"its parent {ended.job_id} ended {how}"
                pending.extend((child, JobStatus.DEAD, news) for child in reversed(ended.children))
            ended.children = []

    def _release_children(self, parent: Job, now: float) -> None:
        for child in parent.children:
            if child.phase is not Phase.WAITING:
                continue
            child.missing -= 1
            if child.spec.affinity and child.tied_to is None:
                child.tied_to = parent.ran_on
            if not child.missing:
                self._make_ready(child, now)
