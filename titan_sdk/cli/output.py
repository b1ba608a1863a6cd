"""The output of a command: text for people, or JSON for programs.

stdout has the answer and stderr the progress, so that a pipe gets only the answer. Rich and the reports are imported when
they are used, so that `titan --help` stays fast.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "plain"]

_WIDTH_OF_A_PIPE = 160
"""A pipe has no width; rich's 80 columns would cut ids and results."""


class Output:
    """The output of one command."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    @property
    def progress(self) -> Console:
        """The console for progress, on stderr."""
        from rich.console import Console

        return Console(stderr=True, highlight=False)

    def answer(self, value: Any, text: str | Iterable[Any] | None = None) -> None:
        """Print the answer.

        Args:
            value: the value that ``--json`` prints.
            text: the text for people: printed unchanged, or rich renderables; ``None`` prints nothing.
        """
        if self.as_json:
            self.line(json.dumps(plain(value), ensure_ascii=False))
        elif isinstance(text, str):
            self.line(text)
        elif text is not None:
            from rich.console import Console

            console = Console(highlight=False)
            if not console.is_terminal:
                console = Console(highlight=False, width=_WIDTH_OF_A_PIPE)
            for part in text:
                console.print(part)

    def line(self, text: str) -> None:
        """Print one line on stdout at once, unchanged: a user's text is not markup."""
        typer.echo(text)


def plain(value: Any) -> Any:
    """Dataclasses, enums, sets and tuples as JSON types."""
    from titan_sdk.model.files import FileRef
    from titan_sdk.model.report import DagReport, JobReport

    if isinstance(value, FileRef):
        return value.to_json()
    if isinstance(value, DagReport):
        return {"name": value.name, "state": value.state.value, "jobs": [plain(job) for job in value.jobs]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, JobReport):
            fields["seconds"] = value.seconds
        return fields
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
