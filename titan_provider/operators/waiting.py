"""The blocking wait of a task that keeps its worker slot. Its asynchronous twin is in ``triggers/titan.py``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from titan_provider.exceptions import TitanPlacementTimedOut
from titan_provider.joblog import JobLog, LogCursor, Logger
from titan_provider.waiting import (
    LOG_CHUNKS,
    REASON_EVERY,
    Lease,
    Pace,
    Patience,
    ProgressLines,
    tell_wait,
)
from titan_sdk import JobStatus, LogPage, NotFound, TitanClient, TitanError, TransportError

__all__ = ["JobWatch", "end_soon", "statuses_after"]

T = TypeVar("T")

SOON = 1.0
"""Seconds that a deferrable task waits by itself. A deferral costs more: two starts of a process, and a trigger."""


def statuses_after(
    client: TitanClient, seconds: float, job_ids: Sequence[str], nonces: Mapping[str, str] | None = None
) -> dict[str, JobStatus]:
    """How the jobs stand after that many seconds, or as soon as one of them has ended where the master tells that.

    :param nonces: names of the submissions, by job id
    """
    end = time.monotonic() + seconds
    while True:
        left = max(end - time.monotonic(), 0.0)
        if not client.server_info().has("wait"):
            time.sleep(left)
            left = 0.0
        states = client.get_job_statuses(job_ids, wait=left, nonces=nonces)
        # The master may answer before the time is over.
        if left == 0 or any(status.is_terminal or status is JobStatus.UNKNOWN for status in states.values()):
            return states


def end_soon(client: TitanClient, nonces: Mapping[str, str]) -> bool:
    """Whether all jobs have ended within about a second. False also where the master does not tell.

    :param nonces: names of the submissions, by job id
    """
    end, pace = time.monotonic() + SOON, Pace(SOON)
    waiting = list(nonces)
    try:
        is_told = client.server_info().has("wait")
        while waiting and (left := end - time.monotonic()) > 0:
            states = statuses_after(client, left if is_told else min(pace.next(), left), waiting, nonces)
            waiting = [job_id for job_id, status in states.items() if not status.is_terminal]
            if JobStatus.UNKNOWN in states.values():
                break
    except TitanError:
        return False
    return not waiting


class JobWatch:
    """One job until it is over, its log lines copied to ``log`` as they come.

    :param nonce: names the submission, where it is known
    :param owner_lease: seconds after which the job ends unless its lease is renewed here
    :param placement_timeout: seconds the job may be pending before it starts for the first time; then it is cancelled
    :param unreachable_timeout: seconds for which the master may be silent
    :param cursor: how much of the log somebody else has copied already
    """

    def __init__(
        self,
        client: TitanClient,
        job_id: str,
        *,
        log: Logger,
        requirement: str,
        poll_interval: float,
        nonce: str | None = None,
        owner_lease: float | None = None,
        placement_timeout: float | None = None,
        unreachable_timeout: float = 300.0,
        cursor: LogCursor | None = None,
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._log = log
        self._requirement = requirement
        self._nonce = nonce
        self._lease = Lease(owner_lease)
        self._pace = Pace(poll_interval)
        self._placement_timeout = placement_timeout
        self._patience = Patience(unreachable_timeout)
        self._joblog = JobLog(log, cursor)
        self._progress = ProgressLines(log)
        self._started = time.monotonic()
        self._reason, self._reason_at = "", float("-inf")

    def wait(self) -> bool:
        """Return when the job is over, however it ended, and whether all that it printed is in ``log``.

        :raises TitanPlacementTimedOut: it did not start in time, and was cancelled
        :raises TitanMasterUnreachable: the master was silent for too long
        """
        before, pause = None, 0.0
        while True:
            if self._lease.is_due():
                self._patiently(lambda: self._client.renew_owner_lease(self._job_id, nonce=self._nonce))
            status = self._patiently(partial(self._status_after, pause))
            if status is not before:
                self._pace.restart()
            before = status
            if status is JobStatus.PENDING:
                self._explain_wait()
                self._check_placement()
            else:
                self._placement_timeout = (
                    None  # it has started; before another attempt it may wait as long as it has to
                )
                self._copy_log(to_the_end=status.is_terminal)
                if status is JobStatus.RUNNING:
                    self._tell_progress()
            if status.is_terminal:
                self._joblog.finish()
                return not self._joblog.is_full
            pause = min(self._pace.next(), self._lease.pause, max(self._until_placement(), 0.01))

    def _status_after(self, seconds: float) -> JobStatus:
        nonces = {self._job_id: self._nonce} if self._nonce is not None else None
        status = statuses_after(self._client, seconds, [self._job_id], nonces)[self._job_id]
        if status is JobStatus.UNKNOWN:
            # A Titan master also answers this while its store is down, so it is believed only after a while.
            raise NotFound(f"the master does not know the job {self._job_id!r}")
        return status

    def _copy_log(self, *, to_the_end: bool) -> None:
        """One page, so that neither status nor lease waits for a job that prints without end; at the end all."""
        while not self._joblog.is_full and self._joblog.take(self._patiently(self._read_page)):
            if not to_the_end:
                return

    def _read_page(self) -> LogPage:
        position = self._joblog.cursor.position
        return self._client.read_logs(self._job_id, nonce=self._nonce, position=position, chunks=LOG_CHUNKS)

    def _explain_wait(self) -> None:
        if time.monotonic() - self._reason_at < REASON_EVERY:
            return
        stats = self._patiently(self._client.cluster_stats)
        job = f"job {self._job_id}"
        self._reason = tell_wait(self._log, job, stats, self._requirement, self._reason)
        self._reason_at = time.monotonic()

    def _tell_progress(self) -> None:
        if self._progress.is_due():
            report = self._patiently(lambda: self._client.job_report(self._job_id, nonce=self._nonce))
            self._progress.tell(report.progress)

    def _check_placement(self) -> None:
        if self._until_placement() <= 0:
            self._client.cancel_job(self._job_id)
            raise TitanPlacementTimedOut(
                f"not started after {self._placement_timeout:g} s: {self._reason}; job {self._job_id!r} was cancelled"
            )

    def _until_placement(self) -> float:
        if self._placement_timeout is None:
            return math.inf
        return self._started + self._placement_timeout - time.monotonic()

    def _patiently(self, request: Callable[[], T]) -> T:
        while True:
            try:
                answer = request()
            except (TransportError, NotFound) as exc:
                pause = self._patience.failed(exc)
                if self._patience.is_first_failure:
                    self._log.warning("The state of job %s is not known; asking again: %s", self._job_id, exc)
                time.sleep(pause)
            else:
                self._patience.succeeded()
                return answer
