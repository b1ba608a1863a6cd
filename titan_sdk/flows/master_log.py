"""The log that the master itself keeps: by LOG_READ from an offset where it can, else the whole text each time."""

from __future__ import annotations

from titan_sdk.flows.core import Flow, ask, pause
from titan_sdk.flows.server import server_info
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls

__all__ = ["MasterLog"]

_LATE_LINES = 2.5
"""Seconds after the end in which a real worker may still deliver lines (section 8.3)."""


class MasterLog:
    """What was printed since the last look. ``position`` counts bytes with LOG_READ, characters without.

    Args:
        nonce: of which submission of the id, on a master that tells them apart.
    """

    def __init__(self, session: Session, job_id: str, position: int = 0, nonce: str | None = None) -> None:
        self._session = session
        self._job_id, self._nonce = job_id, nonce
        self.position = position
        self._seen = ""

    def more(self, until: int | None = None) -> Flow[str]:
        """New text, with LOG_READ not beyond that position; empty when there is none."""
        info = yield from server_info(self._session)
        if "log_read" in info.features:
            piece = yield from ask(extended_calls.log_read(self._job_id, self.position, self._nonce, until))
            self.position = piece.next_offset
            return piece.text
        return self._unseen((yield from ask(calls.get_logs(self._job_id))))

    def settle(self) -> Flow[None]:
        """Let lines arrive that a real master may still be waiting for when the job has ended already."""
        info = yield from server_info(self._session)
        if "ordered_logs" not in info.features and not self._seen.endswith("\n"):
            # A complete last line means that nothing is under way.
            yield from pause(_LATE_LINES)

    def _unseen(self, text: str) -> str:
        """The part that was not there at the last look; a real master's log loses its beginning."""
        old, self._seen = self._seen, text
        if not old and self.position:
            fresh = text[self.position :]
        elif text.startswith(old):
            fresh = text[len(old) :]
        else:
            lengths = range(min(len(old), len(text)), 0, -1)
            fresh = text[next((n for n in lengths if text.startswith(old[-n:])), 0) :]
        self.position += len(fresh)
        return fresh
