"""A log cut into lines as a terminal would show them, however it is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from titan_sdk import LogLines

BAR = "loading\n\r 10%\r 50%\r100%\ndone\n"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (BAR, ["loading", "100%", "done"]),
        ("windows\r\nline\r\n", ["windows", "line"]),
        ("bar 1\rbar 2\r     \rafter\n", ["after"]),
        ("bar 1\rbar 2\r     \r\n", ["bar 2"]),
        ("\r\r\n\n", ["", ""]),
        ("no end", ["no end"]),
        ("0%\r7%", ["7%"]),
    ],
)
def test_the_last_state_of_a_line_is_the_line(text: str, lines: list[str]) -> None:
    whole = LogLines()
    assert whole.take(text) + whole.rest() == lines


@given(st.lists(st.sampled_from(["a", "b ", " ", "\r", "\n", "\r\n"])), st.data())
def test_it_does_not_matter_how_the_text_comes(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    whole, pieces, got = LogLines(), LogLines(), []
    for piece in parts:
        got += pieces.take(piece)
        if data.draw(st.booleans()):
            pieces = LogLines(pieces.carry)  # another process goes on
    assert got + pieces.rest() == whole.take(text) + whole.rest()


def test_a_line_under_way_has_a_state_once_it_was_rewritten_and_never_grows() -> None:
    lines = LogLines()
    lines.take("Password: ")
    assert lines.state is None
    for percent in range(100):
        lines.take(f"\r{percent:3}% of it")
        assert lines.state == f"{percent:3}% of it"
        assert len(lines.carry) < 30
