"""A job's output cut into lines. Progress bars appear as a terminal would show them."""

from __future__ import annotations

__all__ = ["LogLine", "LogLines"]


class LogLine(str):
    """One line of a job's output, without its line end.

    A line that the job rewrites with carriage returns, as progress bars do, comes several times: with ``is_final`` false
    while it changes, and once more with its last text. Every other line comes once, with ``is_final`` true.
    """

    __slots__ = ("is_final",)
    is_final: bool

    def __new__(cls, text: str, is_final: bool = True) -> LogLine:
        """A line with this text."""
        line = super().__new__(cls, text)
        line.is_final = is_final
        return line


class LogLines:
    """Cuts text that arrives in pieces into lines. Of a line with carriage returns only the last version stays.

    Args:
        carry: the ``carry`` of an earlier instance after its last piece.
    """

    def __init__(self, carry: str = "") -> None:
        self.carry = carry
        """The beginning of the unfinished line."""

    @property
    def state(self) -> str | None:
        """The visible text of the unfinished line, if the job rewrites it; else ``None``."""
        return _shown(self.carry) if "\r" in self.carry else None

    def take(self, text: str) -> list[str]:
        """The lines that end within this piece."""
        *ended, carry = (self.carry + text).split("\n")
        # Earlier versions of the line are dropped: they would fill most of a long progress bar's line.
        before, rewritten, last = carry.rpartition("\r")
        self.carry = f"{_shown(before)}\r{last}" if rewritten else carry
        return [_shown(line) for line in ended]

    def rest(self) -> list[str]:
        """The unfinished last line at the end of the output, if there is one."""
        last, self.carry = self.carry, ""
        return [_shown(last)] if last else []


def _shown(line: str) -> str:
    """The last version that is not blank: a bar that clears itself ends with spaces."""
    if "\r" not in line:
        return line
    states = line.split("\r")
    return next((state for state in reversed(states) if state.strip()), states[-1])
