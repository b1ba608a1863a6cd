"""The exit codes by cause. Only this module turns an error into a sentence on stderr."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from titan_sdk.errors import (
    ConnectFailed,
    ConnectionLost,
    CorruptData,
    InvalidArgument,
    JobFailed,
    LocalProtocolError,
    NotFound,
    PeerProtocolError,
    RequestRefused,
    StoreUnavailable,
    SubmissionUnconfirmed,
    TimedOut,
    TitanError,
    WaitTimedOut,
)

__all__ = ["HELP", "ExitCode", "code_for", "complain", "reported"]


class ExitCode(IntEnum):
    """The exit codes of ``titan``, for scripts."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANNOT_CONNECT = 3
    REFUSED = 4
    NOT_FOUND = 5
    TIMED_OUT = 6
    UNKNOWN_OUTCOME = 7
    PROTOCOL = 70
    INTERRUPTED = 130


HELP = """\
Exit codes: 0 ok · 1 the job failed, or a check did · 2 wrong usage or input, nothing was sent · \
3 cannot connect · 4 the master refused · 5 not found · 6 timed out · \
7 the outcome is unknown, ask before repeating · 70 the peer does not speak Titan · 130 interrupted."""

_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    # The first match counts, so subclasses come first.
    (JobFailed, ExitCode.FAILED),
    (InvalidArgument, ExitCode.USAGE),
    (LocalProtocolError, ExitCode.USAGE),
    (ConnectFailed, ExitCode.CANNOT_CONNECT),
    (NotFound, ExitCode.NOT_FOUND),
    (RequestRefused, ExitCode.REFUSED),
    (StoreUnavailable, ExitCode.REFUSED),
    (WaitTimedOut, ExitCode.TIMED_OUT),
    (TimedOut, ExitCode.TIMED_OUT),
    (ConnectionLost, ExitCode.UNKNOWN_OUTCOME),
    (SubmissionUnconfirmed, ExitCode.UNKNOWN_OUTCOME),
    (PeerProtocolError, ExitCode.PROTOCOL),
    (CorruptData, ExitCode.PROTOCOL),
    (TitanError, ExitCode.FAILED),
    (OSError, ExitCode.USAGE),
)


_METHOD = re.compile(r"(\w+)(?:: | (?='))")
"""``store_get: ...``, or ``store_get 'key': ...``."""


def code_for(error: Exception) -> ExitCode:
    """The exit code for the error's cause."""
    if isinstance(error, ConnectionLost) and not error.outcome_unknown:
        return ExitCode.CANNOT_CONNECT  # it was only a question
    return next(code for kind, code in _CODES if isinstance(error, kind))


def complain(sentence: str) -> None:
    """Print one line on stderr, without the Python names in the SDK's errors: the user called a command."""
    sentence = sentence.replace("another data_dir", "another --data-dir").replace(
        "a data_dir", "a --data-dir"
    )
    begin = _METHOD.match(sentence)
    if begin and (begin[1] in {"result", "wait"} or _is_method(begin[1])):
        sentence = sentence[begin.end() :]
    typer.echo(f"titan: {sentence}", err=True)


def _is_method(name: str) -> bool:
    from titan_sdk.client import TitanClient  # not for `titan --help`

    return not name.startswith("_") and hasattr(TitanClient, name)


@contextmanager
def reported(interrupted: str = "interrupted") -> Iterator[None]:
    """Turn what the SDK raises into a sentence and an exit code; other errors are bugs and keep their traceback."""
    try:
        yield
    except (TitanError, OSError) as exc:
        if isinstance(exc, BrokenPipeError):
            # The reader of the output is gone (`titan logs x | head`), so there is no one to report to.
            sys.stderr.close()
            raise typer.Exit(ExitCode.OK) from exc
        complain(str(exc))
        raise typer.Exit(code_for(exc)) from exc
    except KeyboardInterrupt as exc:
        complain(interrupted)
        raise typer.Exit(ExitCode.INTERRUPTED) from exc
