"""A hundred tasks among SIGKILLs: every script runs once, no job is left, every result is right."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.chaos.conftest import running_lab
from tests.e2e.lab import TASKS, Lab, Run
from tests.support.airflow_run import unique

SECONDS = 420
"""All tasks must have ended by then, on two cores."""
CALM_AFTER = 90
"""Seconds of killing; then the crowd may come to its end."""

pytestmark = pytest.mark.timeout(SECONDS + 240)


@pytest.fixture(scope="module")
def crowded(pytestconfig: pytest.Config) -> Iterator[Lab]:
    # A scheduler that is busy with a hundred tasks is silent for seconds; taken for dead, it gives healthy tries up.
    patient = {
        "AIRFLOW__CORE__PARALLELISM": "6",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "100",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "120",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "300",
    }
    with running_lab(pytestconfig, slots=16, **patient) as lab:
        yield lab


@pytest.mark.parametrize("mode", ["sync", "deferred"])
def test_every_job_runs_once_whatever_is_killed(crowded: Lab, chaos_seed: int, mode: str) -> None:
    chance = random.Random(f"{chaos_seed} {mode}")
    run = crowded.trigger(f"crowd_{mode}", unique("crowd"))
    killed = wreak(crowded, run, chance, triggerer=mode == "deferred")
    tasks = crowded.until(lambda: all_ended(run), "all tasks have ended", SECONDS - CALM_AFTER)
    print(f"{mode}, --chaos-seed {chaos_seed}: {dict(killed)} killed, tries {tries(tasks)}")
    assert killed["task"], "no task was killed: nothing was shown"
    assert Counter(task["state"] for task in tasks) == {"success": TASKS}
    counts = [run.starts(index) for index in range(TASKS)]
    assert [len(starts) for starts in counts] == [1] * TASKS
    assert all(run.is_over(job_id) for starts in counts for job_id in starts)
    assert [run.result(index) for index in range(TASKS)] == [index * index for index in range(TASKS)]


def wreak(lab: Lab, run: Run, chance: random.Random, *, triggerer: bool) -> Counter[str]:
    """SIGKILL at random instants what works for the run, until the time is over or the run is."""
    killed: Counter[str] = Counter()
    calm = time.monotonic() + CALM_AFTER
    next_triggerer = time.monotonic() + chance.uniform(10, 20)
    while time.monotonic() < calm and not all_ended(run):
        time.sleep(chance.uniform(0.3, 2.0))
        running = [task["pid"] for task in run.tasks() if task["state"] == "running" and task["pid"]]
        if running and kill_process(chance.choice(running)):
            killed["task"] += 1
        if triggerer and time.monotonic() > next_triggerer:
            lab.kill("triggerer")
            lab.start("triggerer")
            killed["triggerer"] += 1
            next_triggerer = time.monotonic() + chance.uniform(20, 30)
    return killed


def kill_process(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def all_ended(run: Run) -> list[dict[str, object]]:
    """The tasks, once they have ended."""
    tasks = run.tasks()
    over = len(tasks) == TASKS and all(task["state"] in ("success", "failed") for task in tasks)
    return tasks if over else []


def tries(tasks: list[dict[str, object]]) -> dict[object, int]:
    return dict(sorted(Counter(task["try_number"] for task in tasks).items()))  # type: ignore[type-var]
