"""A wait in a terminal: output lines as they are printed, progress on stderr, the report at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence

from rich.live import Live
from rich.status import Status
from rich.table import Table
from rich.text import Text

from titan_sdk.cli.exit_codes import complain
from titan_sdk.cli.output import Output
from titan_sdk.cli.render import jobs_table
from titan_sdk.client import TitanClient
from titan_sdk.errors import TitanError, TransportError, WaitTimedOut
from titan_sdk.handles import DagHandle, JobHandle
from titan_sdk.model.job import TitanJob
from titan_sdk.model.loglines import LogLine, LogLines
from titan_sdk.model.report import DagReport, JobReport
from titan_sdk.model.status import JobStatus

__all__ = ["show_lines", "warn_of_missing_tags", "watch_dag", "watch_job"]

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.5
_GROWTH = 1.3


class _Pace:
    """The pause between two polls, and the rest of the caller's timeout."""

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
    state = JobStatus.PENDING
    with output.progress.status(_headline(handle.job_id)) as spinner:
        lines = _Lines(client, handle, show, spinner)
        while not pace.over:
            try:
                report = handle.report()
                state = report.state
                fresh = lines.read()
                spinner.update(_progress(report, lines.state))
            except TransportError:
                break  # the wait below knows for how long a master may be away
            if report.state.is_terminal or report.state is JobStatus.UNKNOWN:
                break
            pace.rest(busy=fresh)
        # The SDK's own wait knows how long an id may stay unknown.
        try:
            report = handle.wait(pace.left, raise_on_failure=False)
        except WaitTimedOut as exc:
            raise _not_over(f"job {handle.job_id!r} is {state}", timeout, exc) from exc
        lines.finish()
    return report


def _not_over(what: str, timeout: float | None, exc: WaitTimedOut) -> WaitTimedOut:
    """The error with the whole time of the wait, not only that of the last request."""
    return exc if timeout is None else WaitTimedOut(f"{what} after {timeout:g} s; the work goes on")


def warn_of_missing_tags(client: TitanClient, jobs: Iterable[TitanJob]) -> None:
    """Warn of jobs whose tag no worker has. This is only a hint, so a master that cannot answer is not asked again."""
    try:
        stats = client.cluster_stats()
    except TitanError:
        return
    for job in jobs:
        if missing := stats.lacks_worker(job.requirement):
            complain(f"warning: job {job.job_id!r} waits: {missing}")


class _Lines:
    """A job's output, handed on line by line."""

    def __init__(
        self, client: TitanClient, handle: JobHandle, show: Callable[[str], None] | None, spinner: Status
    ) -> None:
        self._client = client
        self._handle = handle
        self._show = show
        self._spinner = spinner
        self._position = 0
        self._lines = LogLines()

    @property
    def state(self) -> str | None:
        """The unfinished line, while the job rewrites it."""
        return self._lines.state

    def read(self) -> bool:
        """Show new output. Returns whether there was some."""
        if self._show is None:
            return False
        page = self._client.read_logs(self._handle.job_id, nonce=self._handle.nonce, position=self._position)
        self._position = page.position
        self._print(self._lines.take(page.text))
        return bool(page.text)

    def finish(self) -> None:
        """Show the rest after the job's end."""
        if self._show is None:
            return
        job, nonce = self._handle.job_id, self._handle.nonce
        for line in self._client.follow_logs(job, nonce=nonce, position=self._position):
            if line.is_final:
                self._print(self._lines.take(f"{line}\n"))
        self._print(self._lines.rest())

    def _print(self, lines: Sequence[str]) -> None:
        """Print lines without the spinner, because on a terminal both would share a line."""
        if not lines or self._show is None:
            return
        self._spinner.stop()
        for line in lines:
            self._show(line)
        self._spinner.start()


def show_lines(lines: Iterable[LogLine], output: Output) -> None:
    """Print a job's lines as they come. On a terminal a line that the job rewrites stays one line."""
    console = output.progress
    with console.status("") as spinner:
        spinner.stop()
        for line in lines:
            if line.is_final or not console.is_terminal:
                spinner.stop()
                output.line(line)
            else:
                spinner.update(Text(line.strip()))
                spinner.start()


def _headline(job_id: str) -> Text:
    return Text(f"{job_id}: submitted")


def _progress(report: JobReport, state: str | None = None) -> Text:
    text = Text(f"{report.job_id}: {report.state.lower()}")
    if report.worker:
        text.append(f" on {report.worker}")
    if report.progress is not None:
        fraction, words = report.progress
        if fraction is not None:
            filled = round(max(0.0, min(fraction, 1.0)) * 20)
            text.append(f"  {'━' * filled}{'╌' * (20 - filled)} {fraction:.0%}")
        text.append(f"  {words}" if words else "")
    if state:
        text.append(f"  {state.strip()}")
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
    try:
        return handle.wait(pace.left, raise_on_failure=False)
    except WaitTimedOut as exc:
        open_jobs = ", ".join(f"{job} {state}" for job, state in seen.items() if not state.is_terminal)
        raise _not_over(f"DAG {handle.name!r} is not over ({open_jobs})", timeout, exc) from exc
