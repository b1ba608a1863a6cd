"""DAG checks that no master makes, and what follows from a failure upstream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from titan_sdk.errors import InvalidDag
from titan_sdk.model.dag import order_jobs, outside_parents, upstream_failures
from titan_sdk.model.job import TitanJob

SCRIPT = str(Path(__file__))


def job(job_id: str, *parents: str) -> TitanJob:
    return TitanJob(job_id, SCRIPT, parents=list(parents))


def refusal(name: Any, jobs: Any) -> str:
    with pytest.raises(InvalidDag) as caught:
        order_jobs(name, jobs)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


def test_parents_come_before_children_whatever_the_order_given() -> None:
    ordered = order_jobs("etl", [job("c", "b"), job("b", "DAG-a"), job("a")])
    assert [j.job_id for j in ordered] == ["a", "b", "c"]


@given(st.permutations(range(6)), st.data())
def test_every_job_comes_once_and_after_its_parents(numbers: list[int], data: st.DataObject) -> None:
    jobs = []
    for position, number in enumerate(numbers):
        parents = data.draw(
            st.lists(st.sampled_from(numbers[:position]), unique=True) if position else st.just([])
        )
        jobs.append(job(f"j{number}", *(f"j{parent}" for parent in parents)))
    ordered = order_jobs("d", data.draw(st.permutations(jobs)))
    assert sorted(j.job_id for j in ordered) == sorted(j.job_id for j in jobs)
    place = {j.full_id: index for index, j in enumerate(ordered)}
    assert all(place[parent] < place[j.full_id] for j in ordered for parent in j.parent_ids)


def test_a_parent_outside_the_dag_does_not_hinder_the_order() -> None:
    jobs = order_jobs("etl", [job("b", "a", "elsewhere"), job("a")])
    assert [j.job_id for j in jobs] == ["a", "b"]
    assert outside_parents(jobs) == {"DAG-elsewhere": ("b",)}


@pytest.mark.parametrize("name", ["", "  ", None, 7])
def test_a_dag_needs_a_name(name: Any) -> None:
    expected = f"the DAG's name {name!r} is not a text, or empty; give it a name"
    assert refusal(name, [job("a")]) == expected


def test_a_dag_needs_jobs() -> None:
    assert refusal("etl", []) == "DAG 'etl' has no jobs"
    assert refusal("etl", ["a"]) == "DAG 'etl': 'a' is not a TitanJob"


def test_an_id_twice_is_refused_with_and_without_the_prefix() -> None:
    assert refusal("etl", [job("a"), job("DAG-a")]) == (
        "DAG 'etl': the id 'DAG-a' is used twice; ids with and without DAG- are the same"
    )


def test_a_cycle_is_named_by_its_path() -> None:
    sentence = refusal("etl", [job("a", "c"), job("b", "a"), job("c", "b"), job("d", "c")])
    start, end = "DAG 'etl' has a cycle: ", "; remove one of these parents"
    assert sentence.startswith(start)
    assert sentence.endswith(end)
    path = sentence.removeprefix(start).removesuffix(end).split(" -> ")
    assert path[0] == path[-1]
    parents = {"a": "c", "b": "a", "c": "b"}
    assert [parents[child] for child in path[:-1]] == path[1:]


def test_a_job_that_is_its_own_parent_is_a_cycle() -> None:
    assert refusal("etl", [job("a", "a")]) == ("DAG 'etl' has a cycle: a -> a; remove one of these parents")


def test_what_waits_for_a_failed_job_is_found_down_to_the_grandchildren() -> None:
    parents = {"root": (), "ok": (), "child": ("root", "ok"), "grand": ("child",), "free": ("ok",)}
    blocked = upstream_failures(parents, ["root"])
    assert blocked == {"child": ("root",), "grand": ("root",)}


def test_two_causes_are_both_named_and_what_failed_below_another_is_none() -> None:
    parents = {"a": (), "b": ("a",), "c": (), "d": ("b", "c")}
    assert upstream_failures(parents, ["a", "b", "c"]) == {"b": ("a",), "d": ("a", "c")}


def test_a_failed_parent_in_another_dag_counts() -> None:
    assert upstream_failures({"a": ("elsewhere",)}, ["elsewhere"]) == {"a": ("elsewhere",)}
    assert upstream_failures({"a": ("elsewhere",)}, []) == {}
