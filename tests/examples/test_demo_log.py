"""The filter between Airflow's log and the terminal of `make demo`."""

from __future__ import annotations

import json

import pytest

from dags_examples.demo.task_log import Shown, TaskLogFilter


def entry(event: str, logger: str = "airflow.models.dagrun", level: str = "info", **more: object) -> str:
    return json.dumps({"event": event, "logger": logger, "level": level} | more) + "\n"


START = entry("[DAG TEST] starting task_id=train map_index=-1", "airflow.sdk.definitions.dag")


def test_a_task_opens_with_its_name() -> None:
    assert TaskLogFilter().show(START) == Shown("train", "task")


@pytest.mark.parametrize(
    "logger",
    [
        "titan_provider.work.waiting",
        "airflow.task.operators.titan_provider.operators.titan.TitanJobOperator",
        "airflow.task.hooks.titan_provider.hooks.titan.TitanHook",
    ],
)
def test_what_the_provider_says_is_shown(logger: str) -> None:
    assert TaskLogFilter().show(entry("epoch 5/30", logger)) == Shown("epoch 5/30", "log")


def test_airflows_own_words_are_not_shown() -> None:
    assert TaskLogFilter().show(entry("Created dag run.")) is None


def test_what_a_task_prints_is_shown_and_nothing_printed_outside_of_one() -> None:
    lines = TaskLogFilter()
    assert lines.show("loading\n") is None
    lines.show(START)
    assert lines.show("accuracy 97%\n") == Shown("accuracy 97%", "log")
    lines.show(entry("[DAG TEST] end task task_id=train map_index=-1"))
    assert lines.show("bye\n") is None


def test_errors_are_shown_with_their_exception() -> None:
    detail = [{"exc_type": "TitanJobFailed", "exc_value": "job 'x' failed with exit code 3"}]
    shown = TaskLogFilter().show(entry("Task failed", "task", "error", error_detail=detail))
    assert shown == Shown("Task failed: TitanJobFailed: job 'x' failed with exit code 3", "error")
