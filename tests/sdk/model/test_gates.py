"""Gates as a rewrite of the DAG: pure, and by Titan's own names."""

from __future__ import annotations

import pytest

from titan_sdk import InvalidDag, InvalidJob, TitanJob
from titan_sdk.model.gates import add_gates, gate_of

GATE = "hitl-gate-"


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "job.py"
    path.write_text("pass")

    def make(job_id, parents=(), **options):
        return TitanJob(job_id, str(path), parents=list(parents), **options)

    make.script = str(path)
    return make


def shape(jobs):
    return {j.job_id: j.parents for j in jobs}


def test_without_messages_nothing_changes(job):
    jobs = (job("a"), job("b", ["a"]))
    placed, messages = add_gates(jobs, job.script)
    assert placed == jobs
    assert all(one is other for one, other in zip(placed, jobs, strict=True))
    assert messages == {}


def test_a_gate_follows_its_job_and_takes_over_what_hangs_on_it(job):
    jobs = [
        job("a", hitl_message="Go?", priority=9, max_wait_seconds=900),
        job("other"),
        job("b", ["DAG-a", "other"]),
    ]
    placed, messages = add_gates(jobs, job.script)
    assert shape(placed) == {"a": (), GATE + "a": ("a",), "other": (), "b": (GATE + "a", "other")}
    assert [j.job_id for j in placed] == ["a", GATE + "a", "other", "b"]
    gate = placed[1]
    assert gate.args == (GATE + "a", "900", "Go?")
    assert (gate.priority, gate.max_attempts, gate.requirement) == (9, 1, "GENERAL")
    assert messages == {GATE + "a": "Go?"}


def test_a_job_below_two_gates_waits_for_both(job):
    jobs = [job("a", hitl_message="A?"), job("b", hitl_message="B?"), job("c", ["a", "b"])]
    placed, _ = add_gates(jobs, job.script)
    assert placed[-1].parents == (GATE + "a", GATE + "b")


def test_the_prefix_of_an_id_is_not_part_of_the_gates(job):
    placed, _ = add_gates([job("DAG-a", hitl_message="?"), job("b", ["a"])], job.script)
    assert shape(placed) == {"DAG-a": (), GATE + "a": ("DAG-a",), "b": (GATE + "a",)}
    assert gate_of("DAG-a") == gate_of("a") == gate_of(f"DAG-{GATE}a") == GATE + "a"


def test_a_job_with_the_name_of_a_gate_is_refused(job):
    with pytest.raises(InvalidDag, match=f"its gate's name '{GATE}a' is another job's"):
        add_gates([job("a", hitl_message="?"), job(GATE + "a")], job.script)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"hitl_message": " "}, "is not a text that asks for something"),
        ({"hitl_message": 3}, "is not a text that asks for something"),
        ({"hitl_message": "a\0"}, "contains a NUL character"),
        ({"hitl_message": "?", "max_wait_seconds": 0}, "is not a whole number of seconds from 1 up"),
        ({"hitl_message": "?", "max_wait_seconds": True}, "is not a whole number of seconds from 1 up"),
    ],
)
def test_what_cannot_be_asked_is_refused(job, options, sentence):
    with pytest.raises(InvalidJob, match=sentence):
        job("a", **options)


def test_an_id_too_long_for_its_gate_is_refused(job):
    with pytest.raises(InvalidJob, match="gives its gate a name that is 205 characters long"):
        job("a" * 195, hitl_message="?")
