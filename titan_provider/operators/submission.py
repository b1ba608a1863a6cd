"""The submit, once: an id that is kept before it is used, and a later try that asks before it submits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from titan_provider.dispatch import Decision, Record, decide
from titan_provider.joblog import Logger
from titan_sdk import TitanClient, TitanJob

__all__ = ["STATE_KEY", "obtain_job"]

STATE_KEY = "titan_job"


def obtain_job(
    client: TitanClient,
    state: Any | None,
    record: Record,
    build: Callable[[str], TitanJob],
    log: Logger,
    about_to_submit: Callable[[str], None],
) -> str:
    """Id of the job that this try waits for: an earlier try's where it is still the right one, else a new one.

    :param state: Airflow's task state store, or None for a task that remembers nothing
    :param record: what this try would keep
    :param build: makes the job of an id; raises when the job cannot be sent
    :param about_to_submit: told the id before anything is sent or waited for, so that a kill can cancel it
    """
    if state is not None and (old := Record.from_json(state.get(STATE_KEY))):
        status = client.get_job_status(old.job_id)
        decision = decide(old, record, status)
        if decision is Decision.ATTACH:
            log.info(
                "An earlier try of this task submitted job %s, which is %s; waiting for it",
                old.job_id,
                status,
            )
            about_to_submit(old.job_id)
            return old.job_id
        if decision is Decision.CANCEL_AND_SUBMIT:
            log.warning(
                "Job %s of an earlier run of this task is still %s; cancelling it", old.job_id, status
            )
            client.cancel_job(old.job_id)
    job = build(record.job_id)
    if state is not None:
        state.set(STATE_KEY, record.to_json())
    about_to_submit(record.job_id)
    client.submit_job(job)
    if state is not None:
        state.set(STATE_KEY, record.confirmed().to_json())
    log.info("Submitted job %s, to run on a worker tagged %s", record.job_id, job.requirement)
    return record.job_id
