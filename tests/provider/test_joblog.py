from __future__ import annotations

import logging
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan_provider import joblog
from titan_provider.joblog import JobLog, LogCursor
from titan_sdk import LogPage


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.copied: list[str] = []
        self.warnings: list[str] = []

    def info(self, event: str, /, *args: object) -> None:
        self.copied.append(event % args)

    def warning(self, event: str, /, *args: object) -> None:
        self.warnings.append(event % args)


def pages(text: str, cuts: list[int]) -> list[LogPage]:
    """The text in pieces, as a runtime's chunks would hold it."""
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(edges)]
    return [LogPage(piece, index + 1) for index, piece in enumerate(pieces)]


LOGS = st.text(st.sampled_from("ab\n€"), max_size=60)


@given(LOGS, st.lists(st.integers(0, 60)), st.integers(0, 10))
def test_each_line_arrives_once_in_order_however_the_log_is_cut(
    text: str, cuts: list[int], stop: int
) -> None:
    """Also when the copy stops after any page and goes on in another process."""
    lines = Lines()
    first = JobLog(lines)
    parts = pages(text, cuts)
    for page in parts[:stop]:
        assert first.take(page)
    second = JobLog(lines, LogCursor.from_text(first.cursor.to_text()))
    for page in parts[stop:]:
        assert second.take(page)
    assert not second.take(LogPage("", second.cursor.position))
    second.finish()
    expected = text.split("\n")
    assert lines.copied == (expected if expected[-1] else expected[:-1])
    assert second.cursor.lines == len(lines.copied)


def test_a_percent_sign_in_a_log_is_only_text() -> None:
    lines = Lines()
    JobLog(lines).take(LogPage("100 %s done\n", 1))
    assert lines.copied == ["100 %s done"]


def test_the_copy_stops_at_a_limit_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblog, "MAX_LINES", 5)
    lines = Lines()
    log = JobLog(lines)
    for position in range(1, 5):
        log.take(LogPage("x\nx\n", position))
    assert len(lines.copied) == 5
    assert lines.warnings == ["The job has printed more than 5 lines; the rest is not copied"]


def test_a_line_without_end_does_not_grow_in_memory() -> None:
    lines = Lines()
    log = JobLog(lines)
    for position in range(1, 20):
        log.take(LogPage("x" * 50_000, position))
        assert len(log.cursor.carry) <= 64 * 1024
    log.finish()
    assert sum(map(len, lines.copied)) == 19 * 50_000


def test_airflows_loggers_fit() -> None:
    JobLog(logging.getLogger("test")).take(LogPage("x\n", 1))


def test_no_cursor_is_none() -> None:
    assert LogCursor.from_text(None) is None
    assert LogCursor.from_text("") is None
