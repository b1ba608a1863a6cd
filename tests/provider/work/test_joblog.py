from __future__ import annotations

import logging
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from titan_provider.work import joblog
from titan_provider.work.joblog import JobLog, LogCursor
from titan_sdk import LogPage


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.copied: list[str] = []
        self.warnings: list[str] = []

    def info(self, event: str, /, *args: object, **fields: object) -> None:
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


def test_a_progress_bar_is_told_every_ten_seconds_and_once_at_its_end() -> None:
    lines = Lines()
    log = JobLog(lines)
    for second in range(101):
        page = LogPage(f"\r{second}%", second + 1)
        assert log.begin(page, 1000.0 + second)
        log = JobLog(lines, LogCursor.from_text(log.cursor.to_text()))  # any of them may be another process
        log.take(page)
    log.take(LogPage("\ndone\n", 102))
    assert lines.copied == [*(f"{second}%" for second in range(0, 101, 10)), "100%", "done"]


def test_the_lines_of_each_page_may_be_a_group() -> None:
    lines = Lines()
    log = JobLog(lines, group="Log of job a")
    log.take(LogPage("one\ntw", 1))
    log.take(LogPage("o", 2))
    log.finish()
    assert lines.copied == [
        *("::group::Log of job a", "one", "::endgroup::"),
        *("::group::Log of job a", "two", "::endgroup::"),
    ]
    assert log.cursor.lines == 6


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


class Dated(Lines):
    def info(self, event: str, /, *args: object, **fields: object) -> None:
        self.copied.append(f"{fields['timestamp']} {event % args}")


def test_an_announced_page_is_written_with_the_same_times_by_whoever_takes_it() -> None:
    page = LogPage("x\nx\nx\n", 3)
    killed, heir = Dated(), Dated()
    first = JobLog(killed, dated=True)
    assert first.begin(page, now=1_000_000.0)
    announced = first.cursor.to_text()
    first.take(page)
    second = JobLog(heir, LogCursor.from_text(announced), dated=True)
    assert second.interrupted == 3
    second.take(page)
    assert heir.copied == killed.copied
    assert len(set(heir.copied)) == 3, "equal lines at one time would be taken for one"
    assert sorted(heir.copied) == heir.copied
    assert heir.copied[-1] == "1970-01-12T13:46:40.000000Z x"
    assert second.interrupted is None
    assert not second.begin(page, now=1_000_001.0)


def test_times_go_on_where_the_last_page_ended_even_if_the_clock_was_set_back() -> None:
    log = JobLog(lines := Dated(), dated=True)
    for position, now in ((1, 2_000_000.0), (2, 1_000_000.0)):
        page = LogPage("a\nb\n", position)
        log.begin(page, now)
        log.take(page)
    assert sorted(lines.copied) == lines.copied
