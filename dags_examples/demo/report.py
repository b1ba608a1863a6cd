"""What Titan ran for the DAG: a table for people, checks for `make demo`."""

from __future__ import annotations

from rich.table import Table

from dags_examples.demo.processes import DemoFailed
from titan_sdk import JobReport, TitanClient

TASKS = ("prepare", "train", "evaluate")
MIN_ACCURACY = 0.9


def collect(address: str) -> dict[str, JobReport]:
    """The job of each task, asked of the master itself rather than of Airflow."""
    host, _, port = address.rpartition(":")
    with TitanClient(host, int(port)) as client:
        ids = {entry.job_id for worker in client.cluster_stats().workers for entry in worker.history}
        reports = [client.job_report(job_id) for job_id in ids]
    found = {task: report for report in reports for task in TASKS if f".{task}." in report.job_id}
    return {task: found[task] for task in TASKS if task in found}


def table(jobs: dict[str, JobReport]) -> Table:
    shown = Table(title="Jobs on the Titan cluster", title_justify="left")
    for heading, justify in (("task", "left"), ("worker", "left"), ("state", "left"), ("seconds", "right")):
        shown.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    shown.add_column("result", overflow="fold")
    for task, job in jobs.items():
        seconds = "" if job.seconds is None else f"{job.seconds:.2f}"
        shown.add_row(task, job.worker or "", str(job.state), seconds, _summary(job.result))
    return shown


def _summary(result: object) -> str:
    """A result in a cell: nested values are only named, long ones keep their telling end."""
    if not isinstance(result, dict):
        return str(result)
    return ", ".join(f"{key}={_short(value)}" for key, value in result.items())


def _short(value: object) -> str:
    text = "..." if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 24 else "..." + text[-20:]


def check(jobs: dict[str, JobReport]) -> None:
    """Every job succeeded, where it should have, and the model is good."""
    missing = [task for task in TASKS if task not in jobs or not jobs[task].state.is_success]
    if missing:
        raise DemoFailed(f"no successful job for: {', '.join(missing)}")
    train, evaluate = jobs["train"], jobs["evaluate"]
    if not (train.worker or "").startswith("GPU"):
        raise DemoFailed(f"the training ran on {train.worker}, not on the worker tagged GPU")
    if evaluate.worker != train.worker:
        raise DemoFailed(f"affinity had no effect: trained on {train.worker}, evaluated on {evaluate.worker}")
    if evaluate.result["accuracy"] < MIN_ACCURACY:
        raise DemoFailed(f"accuracy {evaluate.result['accuracy']} is below {MIN_ACCURACY}")
