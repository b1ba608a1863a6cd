"""The return value of a submit as programs for upstream's SDK compare it: the master's reply as a text."""

from __future__ import annotations

__all__ = ["Accepted"]

_WORD = "DAG_ACCEPTED"


class Accepted:
    """Equal to ``"DAG_ACCEPTED"`` and to itself. Any other outcome of a submit is raised."""

    def __eq__(self, other: object) -> bool:
        return other == _WORD if isinstance(other, str) else self is other

    def __hash__(self) -> int:
        return id(self) >> 4

    def __contains__(self, text: object) -> bool:
        """Supports upstream's check ``"ERROR" in client.submit_dag(...)``."""
        return isinstance(text, str) and text in _WORD
