"""Every situation in every mode, with what must come of it: docs/durability.md shows this table, the tests run it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.lab import Run, parent_of

SYNC, DEFERRED, MAPPED = "sync", "deferred", "mapped"
MODES = (SYNC, DEFERRED, MAPPED)
ALIVE, CANCELLED, LEASE, ENDED = "goes on", "is cancelled", "ends by its lease", "had ended"


@dataclass(frozen=True)
class Cell:
    """What must come of one situation in one mode."""

    job: str
    """What becomes of the job that ran when it happened."""
    starts: int
    """How often the script runs in all, by its own count."""
    task: str
    """How the task ends, after its job was let go on."""

    def __str__(self) -> str:
        return f"{self.job}; {self.starts}×; {self.task}"


@dataclass(frozen=True)
class Situation:
    """One row.

    :param what: as the page says it
    :param kind: which of the lab's tasks it happens to
    :param happen: makes it happen to instance 0 of the run
    :param all_instances: it happens to every mapped instance, not to the first alone
    :param process: it happens to a task's process, which a deferred task has not got; mapped tasks are sync here
    """

    what: str
    kind: str
    happen: Callable[[Run], None]
    cells: dict[str, Cell]
    all_instances: bool = False
    process: bool = False

    @property
    def name(self) -> str:
        return self.happen.__name__


def same(job: str, starts: int, task: str, *modes: str) -> dict[str, Cell]:
    return {mode: Cell(job, starts, task) for mode in modes or MODES}


def sigterm(run: Run) -> None:
    run.kill_task(signal.SIGTERM)


def sigterm_then_retry(run: Run) -> None:
    run.kill_task(signal.SIGTERM)
    run.started(times=2)


def sigkill(run: Run) -> None:
    run.kill_task(signal.SIGKILL)


def sigkill_with_lease(run: Run) -> None:
    run.kill_task(signal.SIGKILL)


def sigkill_then_retry(run: Run) -> None:
    run.kill_task(signal.SIGKILL)
    run.lab.until(lambda: run.tasks()[0]["try_number"] == 2 and run.state() == "running", "the second try")


def script_fails_then_retry(run: Run) -> None:
    run.open_gate(name="fail")
    run.started(times=2)


def mark_failed(run: Run) -> None:
    run.mark("failed")


def mark_success(run: Run) -> None:
    run.mark("success")


def clear_while_it_waits(run: Run) -> None:
    run.clear()
    run.started(times=2)
    run.wait_for("running" if run.mode == SYNC else "deferred")


def clear_after_success(run: Run) -> None:
    run.open_gate()
    run.wait_for("success")
    run.clear()
    run.started(times=2)


def execution_timeout(run: Run) -> None:
    run.wait_for("failed")


def trigger_timeout(run: Run) -> None:
    run.lab.kill("triggerer")
    run.wait_for("failed", seconds=90)
    if run.is_mapped:
        run.wait_for("failed", 1, seconds=90)
    run.lab.start("triggerer")


def dag_run_timeout(run: Run) -> None:
    run.wait_for("skipped")


def triggerer_restarts(run: Run) -> None:
    _replace_triggerer(run, signal.SIGTERM)


def triggerer_killed(run: Run) -> None:
    _replace_triggerer(run, signal.SIGKILL)


def _replace_triggerer(run: Run, number: int) -> None:
    run.lab.kill("triggerer", number)
    run.lab.start("triggerer")
    copied = len(run.printed())
    run.lab.until(lambda: len(run.printed()) > copied, "the new triggerer copies the log", 90)


def mark_failed_without_triggerer(run: Run) -> None:
    run.lab.kill("triggerer")
    try:
        run.mark("failed")
        run.lab.until(lambda: run.is_over(run.starts()[0]), "the lease is over")
    finally:
        run.lab.start("triggerer")


def api_server_killed(run: Run) -> None:
    run.lab.kill("api-server")
    run.lab.start("api-server")
    run.lab.until(lambda: run.tasks(), "the API server answers again")


def scheduler_host_killed(run: Run) -> None:
    """With the scheduler die its LocalExecutor and the tasks' processes."""
    run.lab.kill("scheduler")
    run.lab.start("scheduler")
    if run.mode == SYNC:
        run.lab.until(
            lambda: run.tasks()[0]["try_number"] == 2 and run.state() == "running", "another try", 120
        )


def frozen_and_back(run: Run) -> None:
    """Airflow gives the frozen try up; it comes back while another waits for the same job, and is told to end."""
    pid = run.pid()
    frozen = (parent_of(pid), pid)
    for one in frozen:
        os.kill(one, signal.SIGSTOP)
    try:
        run.lab.until(
            lambda: run.tasks()[0]["try_number"] == 2 and run.state() == "running", "the second try", 120
        )
        run.lab.until(lambda: run.printed(attempt=2), "the second try copies the log")
    finally:
        for one in frozen:
            os.kill(one, signal.SIGCONT)
    run.lab.until(lambda: not Path(f"/proc/{pid}").exists(), "the first try's process has ended")


SITUATIONS = (
    Situation(
        "SIGTERM to the task's process, no retry left",
        "once",
        sigterm,
        same(CANCELLED, 1, "failed", SYNC, MAPPED),
        process=True,
    ),
    Situation(
        "SIGTERM to the task's process, then a retry",
        "retried",
        sigterm_then_retry,
        same(CANCELLED, 2, "success", SYNC, MAPPED),
        process=True,
    ),
    Situation(
        "SIGKILL to the task's process, then a retry",
        "retried",
        sigkill_then_retry,
        same(ALIVE, 1, "success", SYNC, MAPPED),
        process=True,
    ),
    Situation(
        "SIGKILL to the task's process, no retry left, `owner_lease` set",
        "leased",
        sigkill_with_lease,
        same(LEASE, 1, "failed", SYNC, MAPPED),
        process=True,
    ),
    Situation(
        "SIGKILL to the task's process, no retry left, no lease",
        "once",
        sigkill,
        same(ALIVE, 1, "failed", SYNC, MAPPED),
        process=True,
    ),
    Situation(
        "the script fails, then a retry", "retried", script_fails_then_retry, same(ENDED, 2, "success")
    ),
    Situation("marked failed", "once", mark_failed, same(CANCELLED, 1, "failed")),
    Situation("marked success", "once", mark_success, same(CANCELLED, 1, "success")),
    Situation("cleared while it waits", "once", clear_while_it_waits, same(CANCELLED, 2, "success")),
    Situation("cleared after success", "once", clear_after_success, same(ENDED, 2, "success")),
    Situation(
        "`execution_timeout`", "limited", execution_timeout, same(CANCELLED, 1, "failed"), all_instances=True
    ),
    Situation(
        "`execution_timeout` while no triggerer lives (Airflow's trigger timeout)",
        "limited",
        trigger_timeout,
        same(CANCELLED, 1, "failed", DEFERRED, MAPPED),
        all_instances=True,
    ),
    Situation(
        "`dagrun_timeout`", "runlimited", dag_run_timeout, same(CANCELLED, 1, "skipped"), all_instances=True
    ),
    Situation(
        "SIGTERM to the triggerer, another starts",
        "once",
        triggerer_restarts,
        same(ALIVE, 1, "success", DEFERRED, MAPPED),
    ),
    Situation(
        "SIGKILL to the triggerer, another starts",
        "once",
        triggerer_killed,
        same(ALIVE, 1, "success", DEFERRED, MAPPED),
    ),
    Situation(
        "marked failed while no triggerer lives, `owner_lease` set",
        "leased",
        mark_failed_without_triggerer,
        same(LEASE, 1, "failed", DEFERRED),
    ),
    Situation(
        "the task's host freezes, a retry starts, the host comes back",
        "retried",
        frozen_and_back,
        same(ALIVE, 1, "success", SYNC),
    ),
    Situation(
        "SIGKILL to the scheduler and all tasks' processes, another starts",
        "retried",
        scheduler_host_killed,
        same(ALIVE, 1, "success"),
    ),
    Situation(
        "SIGKILL to the API server, another starts", "once", api_server_killed, same(ALIVE, 1, "success")
    ),
)


def as_markdown() -> str:
    """The table as the page shows it."""
    rows = [("situation", *MODES), ("---",) * (len(MODES) + 1)]
    rows += [(one.what, *(str(one.cells.get(mode, "–")) for mode in MODES)) for one in SITUATIONS]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
