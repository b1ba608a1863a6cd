"""What a try does with the jobs of an earlier one: every case as values, and what holds for any of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from titan_provider.work.jobs import NamedJob
from titan_provider.work.plan import (
    KnownJob,
    Plan,
    Record,
    WorkRecord,
    blocked_jobs,
    children_first,
    make_plan,
)
from titan_sdk import JobStatus

P, R, C, D, X, U = (
    JobStatus.PENDING,
    JobStatus.RUNNING,
    JobStatus.COMPLETED,
    JobStatus.DEAD,
    JobStatus.CANCELLED,
    JobStatus.UNKNOWN,
)
RUN = Record("run", "0" * 16, max_tries=2, clear_number=0, run_started="Monday")
RETRY = replace(RUN, job_id="again", nonce="1" * 16)
CLEARED = replace(RETRY, max_tries=3)
SHAPE = {"a": (), "b": ("a",), "c": ("b",), "d": ()}
"""Parents by name: a -> b -> c, and d alone."""


def known(shape: Mapping[str, tuple[str, ...]] = SHAPE, **marks: str) -> WorkRecord:
    jobs = {
        name: KnownJob(f"id-{name}", f"nonce-{name}", marks.get(name, "same"), parents)
        for name, parents in shape.items()
    }
    return WorkRecord(RUN, jobs)


def wanted(shape: Mapping[str, tuple[str, ...]] = SHAPE, **marks: str) -> list[NamedJob]:
    script: Any = None
    return [NamedJob(name, parents, script, {}, marks.get(name, "same")) for name, parents in shape.items()]


def states(*found: JobStatus) -> dict[str, JobStatus]:
    return dict(zip(SHAPE, found, strict=True))


def plan(
    old: WorkRecord, run: Record, jobs: list[NamedJob], statuses: Mapping[str, JobStatus]
) -> tuple[str, list[str], list[str] | None]:
    """The plan as words; what is kept stands in the order of the jobs, and is marked so."""
    made = make_plan(old, run, jobs, statuses)
    if made.keep is not None:
        assert {name: replace(old.jobs[name], kept=True) for name in made.keep} == made.keep
    return (
        "attach" if made.attach else "submit",
        list(made.cancel),
        None if made.keep is None else sorted(made.keep),
    )


ATTACH = ("attach", [], None)
NEW = {"e": (), **SHAPE}
WITHOUT_C = {"a": (), "b": ("a",), "d": ()}


@pytest.mark.parametrize(
    ("run", "found", "expected"),
    [
        (RETRY, states(C, C, C, C), ATTACH),
        (RETRY, states(R, P, P, P), ATTACH),
        (RETRY, states(C, C, C, P), ATTACH),
        (RETRY, states(D, D, D, R), ATTACH),  # d goes on; the others are over with it
        (RETRY, states(D, P, P, R), ATTACH),  # on a real master b and c never end
        (RETRY, states(D, P, P, C), ("submit", ["id-c", "id-b"], ["d"])),
        (RETRY, states(C, D, P, C), ("submit", ["id-c"], ["a", "d"])),
        (RETRY, states(C, D, D, X), ("submit", [], ["a"])),
        (RETRY, states(U, U, U, U), ("submit", [], [])),
        (RETRY, states(C, R, U, P), ("submit", ["id-b", "id-d"], ["a"])),  # one was lost
        (RETRY, states(D, C, C, C), ("submit", [], ["d"])),
        (CLEARED, states(C, C, C, C), ("submit", [], [])),
        (CLEARED, states(C, C, R, P), ("submit", ["id-c", "id-d"], ["a", "b"])),
        (CLEARED, states(R, P, P, C), ("submit", ["id-c", "id-b", "id-a"], ["d"])),
        (CLEARED, states(C, C, C, D), ("submit", [], ["a", "b", "c"])),
    ],
)
def test_the_same_jobs_again(run: Record, found: dict[str, JobStatus], expected: object) -> None:
    assert plan(known(), run, wanted(), found) == expected


@pytest.mark.parametrize(
    ("jobs", "found", "kept"),
    [
        (wanted(a="changed"), states(C, C, C, D), []),
        (wanted(b="changed"), states(C, C, C, D), ["a"]),
        (wanted(c="changed"), states(C, C, C, D), ["a", "b"]),
        (wanted(NEW), states(C, C, C, C), ["a", "b", "c", "d"]),
        (wanted(WITHOUT_C), states(C, C, R, C), ["a", "b", "d"]),
        (wanted({**SHAPE, "d": ("a",)}), states(C, C, C, C), None),
        (wanted({**NEW, "d": ("a",)}), states(C, C, C, C), ["a", "b", "c"]),  # its parents are others
        (wanted({**NEW, "b": ()}), states(C, C, C, C), ["a", "d"]),
        (wanted({**NEW, "b": ("a", "elsewhere")}), states(C, C, C, C), ["a", "b", "c", "d"]),
        (
            wanted({"e": (), "c": ("b",), "b": ("a",), "a": (), "d": ()}),
            states(C, C, C, C),
            ["a", "b", "c", "d"],
        ),
        (
            wanted({"e": (), "a": ("c",), "b": ("a",), "c": ("b",), "d": ()}),
            states(C, C, C, C),
            ["d"],
        ),  # a circle
    ],
)
def test_a_retry_with_other_jobs_keeps_what_is_the_same(
    jobs: list[NamedJob], found: dict[str, JobStatus], kept: list[str] | None
) -> None:
    how, _, keep = plan(known(), RETRY, jobs, found)
    assert (how, keep) == (("attach", None) if kept is None else ("submit", kept))


def test_what_runs_under_a_name_that_is_not_wanted_any_more_is_cancelled() -> None:
    assert plan(known(), RETRY, wanted(WITHOUT_C), states(C, C, R, C)) == (
        "submit",
        ["id-c"],
        ["a", "b", "d"],
    )


def test_the_cases_that_differ_by_one_number_of_the_run() -> None:
    for other in ({"max_tries": 3}, {"clear_number": 1}, {"run_started": "Tuesday"}):
        assert plan(known(), replace(RETRY, **other), wanted(), states(C, C, C, C)) == ("submit", [], [])


@given(
    st.tuples(*[st.sampled_from([P, R, C, D, X, U])] * 4),
    st.sampled_from([RETRY, CLEARED]),
    st.dictionaries(st.sampled_from("abcd"), st.just("changed")),
)
def test_whatever_is_found(found: tuple[JobStatus, ...], run: Record, changed: dict[str, str]) -> None:
    statuses, old = states(*found), known()
    made = make_plan(old, run, wanted(**changed), statuses)
    going = {name for name, status in statuses.items() if status in (P, R)}
    if made.attach:
        assert (run, made.cancel, made.keep) == (RETRY, (), None)
        assert going - blocked_jobs(old.jobs, statuses) or set(found) == {C}
        return
    assert {f"id-{name}" for name in going} == set(made.cancel), "nothing goes on beside the new ones"
    assert made.keep is not None
    for name in made.keep:
        assert statuses[name] is C
        assert name not in changed
        assert set(SHAPE[name]) <= set(made.keep), "a kept job's parents are kept"


@pytest.mark.parametrize(
    ("found", "blocked"),
    [
        (states(D, P, P, P), {"b", "c"}),
        (states(X, P, P, P), {"b", "c"}),
        (states(C, D, P, R), {"c"}),
        (states(C, P, P, P), set()),
        (states(U, P, P, P), set()),
        (states(D, R, P, P), {"b", "c"}),
        (states(D, C, P, P), set()),
        (states(D, D, D, P), set()),
    ],
)
def test_jobs_below_one_that_failed_never_run(found: dict[str, JobStatus], blocked: set[str]) -> None:
    assert blocked_jobs(known().jobs, found) == blocked


def test_children_are_cancelled_before_their_parents() -> None:
    for order in itertools.permutations(SHAPE):
        found = list(children_first(known({name: SHAPE[name] for name in order}).jobs).items())
        assert [job_id for name, job_id in found if name in "abc"] == ["id-c", "id-b", "id-a"]
        assert sorted(name for name, _ in found) == ["a", "b", "c", "d"]


def test_a_record_of_jobs_survives_the_state_store() -> None:
    record = known()
    record = replace(
        record, jobs={**record.jobs, "d": replace(record.jobs["d"], kept=True, requirement="GPU")}
    )
    kept = json.loads(json.dumps(record.to_json()))
    assert WorkRecord.from_json(kept) == record
    assert kept["v"] == "dag-1"
    assert kept["jobs"]["b"] == {
        "job_id": "id-b",
        "nonce": "nonce-b",
        "mark": "same",
        "parents": ["a"],
        "requirement": "GENERAL",
        "kept": False,
    }
    assert kept["run"] == {
        "v": 1,
        "job_id": "run",
        "nonce": "0" * 16,
        "max_tries": 2,
        "clear_number": 0,
        "run_started": "Monday",
        "master": "",
    }
    assert record.ids == {name: f"id-{name}" for name in SHAPE}
    assert set(record.open_jobs) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "value", [None, "job", [], {}, {"v": 1, "job_id": "j"}, {"v": "dag-2"}, {"v": "dag-1", "run": {"v": 2}}]
)
def test_what_is_no_record_of_jobs_of_this_version_is_ignored(value: object) -> None:
    assert WorkRecord.from_json(value) is None


def test_a_record_of_an_earlier_version_is_read() -> None:
    """Fields that it had not yet have the values of that time."""
    old = {
        "v": 1,
        "job_id": "j",
        "nonce": "n",
        "max_tries": 2,
        "clear_number": 1,
        "later": "than this version",
    }
    assert Record.from_json(old) == Record("j", "n", 2, 1, "", "")


def test_a_task_of_one_job_has_a_record_of_one() -> None:
    one = KnownJob("run", "0" * 16, "", (), "GPU")
    assert WorkRecord.of_one(RUN, "GPU") == WorkRecord(RUN, {"": one})
    assert WorkRecord.of_one(RUN) == WorkRecord(RUN, {"": replace(one, requirement="GENERAL")})
    moved = known().at("h:1")
    assert (moved.run, moved.jobs) == (replace(RUN, master="h:1"), known().jobs)


def test_a_plan_that_says_nothing_does_nothing() -> None:
    assert (Plan().attach, Plan().cancel, Plan().keep) == (False, (), None)
