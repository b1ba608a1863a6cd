"""The code blocks of a Markdown page, and what the tests do with each.

A comment right above a block says what a reader would do with it:

    <!-- run -->                 the default: run it (python, bash)
    <!-- save: NAME -->          save it under that name beside the other blocks
    <!-- dag: NAME -->           save it as a DAG file and run that DAG in Airflow
    <!-- stays -->               a command that goes on until Ctrl-C: run it for a moment, on a free port
    <!-- ci -->                  commands too large for a test: .ci/run must call each of them
    <!-- output -->              what the block before it prints, line by line ("..." stands for anything)
    <!-- shown -->               a drawing
    <!-- env -->                 variables set in a terminal or a config file: the following blocks see them
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:^<!-- (?P<what>[a-z]+)(?:: (?P<name>\S+))? -->\n\n?)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
KNOWN = {"run", "save", "dag", "stays", "ci", "shown", "output", "env"}


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    what: str
    name: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.what} {self.name or self.language})"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page.name,
            line=text.count("\n", 0, found.start("language")) + 1,
            language=found["language"],
            text=found["text"],
            what=found["what"] or "run",
            name=found["name"] or "",
        )
        for found in _BLOCK.finditer(text)
    ]


def fences(page: Path) -> int:
    """How many blocks the page has, counted another way."""
    return len(re.findall(r"^```", page.read_text(encoding="utf-8"), re.M)) // 2
