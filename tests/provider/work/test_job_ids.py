from __future__ import annotations

import re

import pytest

from titan_provider.work.remote import make_job_id
from titan_sdk.model.rules import check_id


@pytest.mark.parametrize(
    ("dag_id", "task_id", "run_id"),
    [
        ("etl", "train", "manual__2026-11-24T03:37:33.765416+00:00"),
        ("größe", "模型", "run id with spaces|and;signs[x]"),
        ("d" * 250, "t" * 250, "r" * 250),
        ("---", "...", "///"),
    ],
)
@pytest.mark.parametrize("map_index", [-1, 0, 999])
def test_ids_are_ones_that_titan_carries(dag_id: str, task_id: str, run_id: str, map_index: int) -> None:
    job_id = make_job_id(dag_id, task_id, run_id, map_index, 3)
    assert check_id(job_id) is None
    assert re.search(r"\.t3-[0-9a-f]{10}$", job_id)


def test_a_person_can_read_where_a_job_comes_from() -> None:
    job_id = make_job_id("etl", "train", "manual__1", 4, 2)
    assert job_id.startswith("etl.train.manual__1.m4.t2-")


def test_the_same_task_gets_a_new_id_each_time() -> None:
    assert len({make_job_id("d", "t", "r") for _ in range(100)}) == 100
