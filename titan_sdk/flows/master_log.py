"""The log that the master keeps. With LOG_READ it is read from an offset, otherwise the whole text is read each time."""

from __future__ import annotations

from titan_sdk.flows.core import Flow, ask, pause
from titan_sdk.flows.server import server_info
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls

__all__ = ["MasterLog"]

_LATE_LINES = 2.5
"""Seconds after a job's end for which a real worker may still deliver lines (section 8.3)."""


class MasterLog:
    """Reads the output since the last read. ``position`` counts bytes with LOG_READ, otherwise characters.

    Args:
        nonce: the submission of the id, on a master that tells submissions apart.
    """

    def __init__(self, session: Session, job_id: str, position: int = 0, nonce: str | None = None) -> None:
        self._session = session
        self._job_id, self._nonce = job_id, nonce
        self.position = position
        self._seen = ""

    def more(self, until: int | None = None) -> Flow[str]:
        """The new text, or an empty one. With LOG_READ it ends at ``until``."""
        info = yield from server_info(self._session)
        if "log_read" in info.features:
            piece = yield from ask(extended_calls.log_read(self._job_id, self.position, self._nonce, until))
            self.position = piece.next_offset
            return piece.text
        return self._unseen((yield from ask(calls.get_logs(self._job_id))))

    def settle(self) -> Flow[None]:
        """Wait for the last lines, which may reach a real master after the job's end."""
        info = yield from server_info(self._session)
        if "ordered_logs" not in info.features and not self._seen.endswith("\n"):
            # A complete last line means that no more text is on its way.
            yield from pause(_LATE_LINES)

    def _unseen(self, text: str) -> str:
        """The text after the last read. A real master's log loses its beginning."""
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
