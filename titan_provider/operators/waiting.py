"""The blocking wait of a task that keeps its worker slot. Its asynchronous twin is in ``triggers/titan.py``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from titan_provider.exceptions import TitanPlacementTimedOut
from titan_provider.joblog import JobLog, LogCursor, Logger
from titan_provider.waiting import (
    LOG_CHUNKS,
    REASON_EVERY,
    Lease,
    Patience,
    ProgressLines,
    jittered,
    tell_wait,
)
from titan_sdk import JobStatus, LogPage, NotFound, TitanClient, TransportError

__all__ = ["JobWatch"]

T = TypeVar("T")


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
        self._poll_interval = poll_interval
        self._nonce = nonce
        self._lease = Lease(owner_lease)
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
        while True:
            if self._lease.is_due():
                self._patiently(lambda: self._client.renew_owner_lease(self._job_id, nonce=self._nonce))
            status = self._patiently(self._ask_status)
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
            time.sleep(min(jittered(self._poll_interval), self._lease.pause))

    def _ask_status(self) -> JobStatus:
        status = self._client.get_job_status(self._job_id, nonce=self._nonce)
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
        limit = self._placement_timeout
        if limit is not None and time.monotonic() - self._started >= limit:
            self._client.cancel_job(self._job_id)
            raise TitanPlacementTimedOut(
                f"not started after {limit:g} s: {self._reason}; job {self._job_id!r} was cancelled"
            )

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
