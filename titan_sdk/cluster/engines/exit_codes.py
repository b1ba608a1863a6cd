"""The meaning of exit codes for a job, the same for every engine."""

from __future__ import annotations

import contextlib
import signal

from titan_sdk.cluster.engines.base import Outcome, RunResult

__all__ = ["NO_RETRY_CODES", "result_of"]

NO_RETRY_CODES = {
    97: "its launcher could not reach or confirm the store of the master (exit code 97)",
    98: "its launcher refused to start it (exit code 98; the log says why)",
}
"""The runtime's exit codes that rule out another run."""


def result_of(code: int | None, *, killed: bool) -> RunResult:
    """The result of a run that began. ``code`` is ``None`` if it is unknown."""
    if code == 0 and not killed:
        return RunResult(Outcome.SUCCESS, 0)
    if killed:
        return RunResult(Outcome.FAILURE, code, "it was killed")
    if code is None:
        reason = "its process is gone and left no exit status; it was killed from outside"
        return RunResult(Outcome.FAILURE, None, reason)
    if code in NO_RETRY_CODES:
        return RunResult(Outcome.FATAL, code, NO_RETRY_CODES[code])
    return RunResult(Outcome.FAILURE, code, _describe(code))


def _describe(code: int) -> str:
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(code - 128).name}"
    return f"it ended with exit code {code}"
