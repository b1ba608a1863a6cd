"""The progress bar of an upload on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from titan_sdk.cli.context import CliSession

__all__ = ["uploading"]


@contextmanager
def uploading(session: CliSession, description: str) -> Iterator[Callable[[int, int], None]]:
    """A callback for the progress of an upload. The bar appears at its first call, and disappears at the end."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = session.output.progress
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(description, total=None)

    def told(done: int, size: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=size)

    try:
        yield told
    finally:
        bar.stop()
