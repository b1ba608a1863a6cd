"""Whatever happens in whatever order: the promises that everything else relies on."""

from __future__ import annotations

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.sdk.cluster.scheduler.desk import Desk
from titan_sdk.cluster.master.scheduler import Outcome
from titan_sdk.model.status import JobStatus

TAGS = ("GENERAL", "GPU", "NOBODY")


class AnyHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(GENERAL=2, GPU=1, slots=2)
        self.parents: dict[str, list[str]] = {}
        self.tags: dict[str, str] = {}
        self.dying: set[str] = set()
        self.count = 0

    @rule(
        size=st.integers(1, 4),
        tag=st.sampled_from(TAGS),
        priority=st.integers(-3, 3),
        delay=st.integers(0, 3),
        affinity=st.booleans(),
        data=st.data(),
    )
    def submit(
        self, size: int, tag: str, priority: int, delay: int, affinity: bool, data: st.DataObject
    ) -> None:
        batch = []
        for _ in range(size):
            self.count += 1
            job_id = f"j{self.count}"
            known = list(self.parents)
            parents = data.draw(st.lists(st.sampled_from(known), max_size=3)) if known else []
            self.parents[job_id], self.tags[job_id] = parents, tag
            batch.append(
                {
                    "job_id": job_id,
                    "tag": tag,
                    "priority": priority,
                    "due": self.desk.now + delay,
                    "parents": parents,
                    "affinity": affinity,
                }
            )
        self.desk.submit_batch(reversed(batch))

    @precondition(lambda self: self.desk.running)
    @rule(outcome=st.sampled_from(Outcome), data=st.data())
    def finish(self, outcome: Outcome, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.desk.running)))
        self.dying.discard(job_id)
        self.desk.finish(job_id, outcome)

    @precondition(lambda self: self.parents)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.parents)))
        finished = job_id in self.desk.ended
        runs = job_id in self.desk.running and job_id not in self.dying
        assert self.desk.cancel(job_id) is not finished
        assert (job_id in self.desk.killed) is runs
        self.desk.killed.clear()
        if runs:
            self.dying.add(job_id)

    @rule(seconds=st.integers(1, 3))
    def time_passes(self, seconds: int) -> None:
        self.desk.tick(self.desk.now + seconds)

    @invariant()
    def never_more_runs_than_slots(self) -> None:
        for worker in self.desk.scheduler.workers:
            here = {job_id for job_id, name in self.desk.running.items() if name == worker.name}
            assert here == worker.busy
            assert len(here) <= worker.slots

    @invariant()
    def only_where_the_tag_is(self) -> None:
        for job_id, worker in self.desk.running.items():
            assert worker.startswith(self.tags[job_id])

    @invariant()
    def never_a_child_before_its_parents(self) -> None:
        for job_id in self.desk.started:
            for parent in self.parents[job_id]:
                assert self.desk.ended.get(parent) is JobStatus.COMPLETED

    @invariant()
    def no_slot_is_free_while_a_job_could_take_it(self) -> None:
        lengths = self.desk.scheduler.queue_lengths()
        for worker in self.desk.scheduler.workers:
            assert worker.free == 0 or not any(lengths.get(tag) for tag in worker.tags)

    @invariant()
    def every_job_is_somewhere(self) -> None:
        unfinished = set(self.parents) - set(self.desk.ended)
        assert len(self.desk.scheduler) == len(unfinished)
        assert set(self.desk.running) - self.dying <= unfinished

    @invariant()
    def nobody_waits_for_a_lost_parent(self) -> None:
        lost = {job_id for job_id, status in self.desk.ended.items() if status is not JobStatus.COMPLETED}
        for job_id, parents in self.parents.items():
            if lost.intersection(parents):
                assert self.desk.ended[job_id] in {JobStatus.DEAD, JobStatus.CANCELLED}


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyHistory = AnyHistory.TestCase
