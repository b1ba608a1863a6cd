"""Where an earlier try's job is when the connection has been edited since. Two runs never happen without a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from titan_provider.dispatch import Record
from titan_provider.exceptions import TitanMasterUnreachable
from titan_provider.joblog import Logger
from titan_sdk import JobStatus, NotFound, TitanClient, TitanError

__all__ = ["Elsewhere", "master_of", "wait_stopped"]

Elsewhere = Callable[[str], TitanClient]
"""Makes a client of the master at an address; all other settings are those of the task's connection."""


def master_of(
    client: TitanClient,
    elsewhere: Elsewhere,
    old: Record,
    job_ids: Sequence[str],
    *,
    same_run: bool,
    log: Logger,
    stack: ExitStack,
) -> TitanClient | None:
    """A client of the master that an earlier try submitted its jobs to; None where that is given up.

    A master that is reached by another name now knows the jobs, and is asked under the new name.

    :param client: of the master that the connection names now
    :param job_ids: what the earlier try submitted
    :param same_run: whether no clear lies between the two tries
    :param stack: closes the client that is opened for another master
    :raises TitanMasterUnreachable: the recorded master does not answer, and nobody has asked for another run
    """
    here = client.config.address
    if old.master in ("", here) or _knows(client, job_ids):
        return client
    there = stack.enter_context(elsewhere(old.master))
    what = f"Job {job_ids[0]!r} of an earlier try of this task" + (", and others," if job_ids[1:] else "")
    try:
        is_known = _knows(there, job_ids)
    except TitanError as exc:
        if same_run:
            raise TitanMasterUnreachable(
                f"{what} was submitted to the master at {old.master}, which does not answer, and may be running there; "
                f"the connection names {here} now. Nothing was submitted again: let that master answer for a retry to "
                f"find the job, or clear the task to run it on {here}: {exc}"
            ) from exc
        log.warning(
            "%s was submitted to the master at %s, which does not answer: it may still be running there",
            what,
            old.master,
        )
        return None
    if is_known:
        log.warning(
            "%s was submitted to the master at %s, while the connection names %s now; asking the former about it",
            what,
            old.master,
            here,
        )
    return there


def _knows(client: TitanClient, job_ids: Sequence[str]) -> bool:
    return any(status is not JobStatus.UNKNOWN for status in client.get_job_statuses(list(job_ids)).values())


def wait_stopped(client: TitanClient, jobs: Mapping[str, str], log: Logger) -> None:
    """Return when nothing is left of an earlier run: a cancelled script has its ``cancel_grace``, and two runs of one task
    must not meet.

    :param jobs: nonces of the submissions, by job id
    """
    for job_id, nonce in jobs.items():
        try:
            if client.wait_stopped(job_id, 0.0, nonce=nonce):
                continue
            log.info(
                "Job %s of an earlier try was told to end and is doing so; waiting until nothing of it is left",
                job_id,
            )
            client.wait_stopped(job_id, nonce=nonce)
        except NotFound:
            pass  # its master does not know it: nothing of it is there
