"""Waiting in front of somebody: output lines as they come, progress on stderr, the report at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from rich.live import Live
from rich.table import Table
from rich.text import Text

from titan_sdk.cli.render import Output, jobs_table
from titan_sdk.client import TitanClient
from titan_sdk.errors import TransportError
from titan_sdk.handles import DagHandle, JobHandle
from titan_sdk.model.report import DagReport, JobReport
from titan_sdk.model.status import JobStatus

__all__ = ["watch_dag", "watch_job"]

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.5
_GROWTH = 1.3


class _Pace:
    """How long to sleep between two looks, and how much of the caller's patience is left."""

    def __init__(self, timeout: float | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._pause = _FIRST_PAUSE

    @property
    def left(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    @property
    def over(self) -> bool:
        return self.left is not None and self.left <= 0

    def rest(self, *, busy: bool) -> None:
        self._pause = _FIRST_PAUSE if busy else min(self._pause * _GROWTH, _LONGEST_PAUSE)
        time.sleep(self._pause if self.left is None else min(self._pause, self.left))


def watch_job(
    client: TitanClient,
    handle: JobHandle,
    output: Output,
    *,
    timeout: float | None,
    show: Callable[[str], None] | None,
) -> JobReport:
    """Wait for a job; returns its report whether it succeeded or not.

    Args:
        show: gets each output line; ``None`` shows none.

    Raises:
        WaitTimedOut, NotFound: as ``JobHandle.wait``.
    """
    pace = _Pace(timeout)
    lines = _Lines(client, handle, show)
    with output.progress.status(_headline(handle.job_id)) as spinner:
        while not pace.over:
            try:
                report = handle.report()
                spinner.update(_progress(report))
                fresh = lines.read()
            except TransportError:
                break  # the wait below knows for how long a master may be away
            if report.state.is_terminal or report.state is JobStatus.UNKNOWN:
                break
            pace.rest(busy=fresh)
        # The SDK's own wait knows how long an id may stay unknown, and what a time-out says.
        report = handle.wait(pace.left, raise_on_failure=False)
        lines.finish()
    return report


class _Lines:
    """A job's output, handed on line by line."""

    def __init__(self, client: TitanClient, handle: JobHandle, show: Callable[[str], None] | None) -> None:
        self._client = client
        self._handle = handle
        self._show = show
        self._position = 0
        self._rest = ""

    def read(self) -> bool:
        """Show what is new; true when there was something."""
        if self._show is None:
            return False
        page = self._client.read_logs(self._handle.job_id, nonce=self._handle.nonce, position=self._position)
        self._position = page.position
        *lines, self._rest = (self._rest + page.text).split("\n")
        for line in lines:
            self._show(line)
        return bool(page.text)

    def finish(self) -> None:
        """The rest, once the job has ended."""
        if self._show is None:
            return
        job, nonce = self._handle.job_id, self._handle.nonce
        first, self._rest = self._rest, ""
        for line in self._client.follow_logs(job, nonce=nonce, position=self._position):
            self._show(first + line)
            first = ""
        if first:
            self._show(first)


def _headline(job_id: str) -> Text:
    return Text(f"{job_id}: submitted")


def _progress(report: JobReport) -> Text:
    text = Text(f"{report.job_id}: {report.state.lower()}")
    if report.worker:
        text.append(f" on {report.worker}")
    if report.progress is not None:
        fraction, words = report.progress
        if fraction is not None:
            filled = round(max(0.0, min(fraction, 1.0)) * 20)
            text.append(f"  {'━' * filled}{'╌' * (20 - filled)} {fraction:.0%}")
        text.append(f"  {words}" if words else "")
    return text


def watch_dag(handle: DagHandle, output: Output, *, timeout: float | None) -> DagReport:
    """Wait for a DAG, its jobs as a live table on a terminal, else one line per change of state.

    Raises:
        WaitTimedOut, NotFound: as ``DagHandle.wait``.
    """
    pace = _Pace(timeout)
    console = output.progress
    seen: dict[str, JobStatus] = {}
    live = Live(Table(), console=console, transient=True, auto_refresh=False)
    with live if console.is_terminal else contextlib.nullcontext():
        while not pace.over:
            try:
                report = handle.report()
            except TransportError:
                break  # the wait below knows for how long a master may be away
            changed = [job for job in report.jobs if seen.get(job.job_id) is not job.state]
            seen |= {job.job_id: job.state for job in changed}
            if console.is_terminal:
                live.update(jobs_table(report.jobs), refresh=True)
            else:
                for job in changed:
                    console.print(_progress(job), soft_wrap=True)
            if all(job.will_not_run for job in report.jobs) or JobStatus.UNKNOWN in seen.values():
                break
            pace.rest(busy=bool(changed))
    return handle.wait(pace.left, raise_on_failure=False)
