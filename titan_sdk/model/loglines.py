"""A job's output cut into lines, with progress bars as a terminal would leave them."""

from __future__ import annotations

__all__ = ["LogLine", "LogLines"]


class LogLine(str):
    """One line of a job's output, without its end.

    A line that the job rewrites by carriage returns, as progress bars do, comes several times: its state while it changes,
    with ``is_final`` false, and once as it was when it ended. Every other line comes once, with ``is_final`` true.
    """

    __slots__ = ("is_final",)
    is_final: bool

    def __new__(cls, text: str, is_final: bool = True) -> LogLine:
        """The text is the whole line."""
        line = super().__new__(cls, text)
        line.is_final = is_final
        return line


class LogLines:
    """Cuts a text that comes in pieces into lines. A line that carriage returns rewrite keeps its last state only.

    Args:
        carry: what an earlier instance had as ``carry`` after its last piece.
    """

    def __init__(self, carry: str = "") -> None:
        self.carry = carry
        """The beginning of the line that has no end yet."""

    @property
    def state(self) -> str | None:
        """What a terminal shows of the unfinished line, if the job rewrites it; else ``None``."""
        return _shown(self.carry) if "\r" in self.carry else None

    def take(self, text: str) -> list[str]:
        """The lines that this piece ends."""
        *ended, carry = (self.carry + text).split("\n")
        # The states before the last one are overwritten; kept, they would be most of a long bar's line.
        before, rewritten, last = carry.rpartition("\r")
        self.carry = f"{_shown(before)}\r{last}" if rewritten else carry
        return [_shown(line) for line in ended]

    def rest(self) -> list[str]:
        """The line that the end of the output has left unfinished, if there is one."""
        last, self.carry = self.carry, ""
        return [_shown(last)] if last else []


def _shown(line: str) -> str:
    """The last state that is not blank: bars that clean up after themselves overwrite it with spaces."""
    if "\r" not in line:
        return line
    states = line.split("\r")
    return next((state for state in reversed(states) if state.strip()), states[-1])
