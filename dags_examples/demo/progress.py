"""What `titan_job.progress(...)` says inside the running jobs, on the terminal as it changes."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.text import Text

from titan_sdk import TitanClient, TitanError

EVERY_SECONDS = 0.4


class ProgressWatch:
    """Shows progress from a thread of its own while the `with` block runs."""

    def __init__(self, address: str, console: Console) -> None:
        host, _, port = address.rpartition(":")
        self._client = TitanClient(host, int(port))
        self._console = console
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._shown: dict[str, tuple[float | None, str]] = {}

    def __enter__(self) -> ProgressWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()

    def _watch(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            try:
                running = [
                    job for worker in self._client.cluster_stats().workers for job in worker.active_jobs
                ]
                for job_id in running:
                    self._show(job_id)
            except TitanError:  # a glance that failed; the next one comes soon
                continue

    def _show(self, job_id: str) -> None:
        now = self._client.job_report(job_id).progress
        if now is None or now == self._shown.get(job_id):
            return
        self._shown[job_id] = now
        fraction, text = now
        done = "" if fraction is None else f"{fraction:4.0%} {'━' * round(fraction * 20):20} "
        self._console.print(Text(f"    {done}{text}", style="green"))
