"""The first line of the script that a worker gets for a job with the runtime.

``python -x`` skips a file's first line, so bash reads the first line only and Python all the others. A master that
starts the job itself may take Python at once where bash would find the same one.
"""

from __future__ import annotations

import re
import shlex

from titan_sdk.model.rules import CANCEL_GRACE, LONGEST_GRACE

__all__ = ["first_line", "grace_of", "is_launcher", "takes_any_python"]

_ANY = "python3 python python3.{14,13,12,11,10,9,8}"
_IS_LAUNCHER = "shopt -s execfail;set -- "
_FIND = (
    _IS_LAUNCHER + "{candidates};{check}"
    'while [ $# -gt 0 ];do p=$1;shift;command -v -- "$p">/dev/null&&exec "$p" -EsSx "$0" "$@";done;'
)


_GRACE = re.compile(rb" # cancel_grace=(\d+(?:\.\d+)?)$")
_LAST_WORDS = 5.0
"""Seconds a launcher has to hand in the record and the last output of a job that was ended."""


_CHECK = (
    'if command -v -- "$1">/dev/null&&[ "$("$1" -EsSc "print(6*7)" 2>/dev/null </dev/null)" != 42 ];'
    "then echo {no_python};exit 98;fi;"
)


def first_line(python: str | None, sentence: str, no_python: str, grace: float = CANCEL_GRACE) -> str:
    """Become this Python (``None``: the first on the PATH) on the rest of the file, or say the sentence.

    Args:
        no_python: what to say where it is something else than Python. Only asked where its name leaves that open: the
            answer costs the start of an interpreter.
        grace: seconds the job may take to end after SIGTERM; a master that ends it reads them here.
    """
    candidates = _ANY if python is None else shlex.quote(python)
    asks = python is not None and not re.match(r"(python|pypy)[\d.]*$", python.rpartition("/")[2])
    check = _CHECK.format(no_python=shlex.quote(no_python)) if asks else ""
    told = "" if grace == CANCEL_GRACE else f" # cancel_grace={grace:.3f}"
    return f"{_FIND.format(candidates=candidates, check=check)}echo {shlex.quote(sentence)};exit 98{told}"


def grace_of(script: bytes) -> tuple[float, float]:
    """How long a run of this script may take to end after SIGTERM, and how long what is left of it may take once its
    first process was killed: the guard of a job with the runtime ends the job itself then.
    """
    if not is_launcher(script):
        return CANCEL_GRACE, 0.0
    found = _GRACE.search(script.partition(b"\n")[0])
    seconds = CANCEL_GRACE if found is None else min(float(found[1]), LONGEST_GRACE)
    return seconds + _LAST_WORDS, seconds + _LAST_WORDS


def is_launcher(script: bytes) -> bool:
    """Whether this is the script of a job with the runtime, which brings the user's own with it."""
    return script.startswith(_IS_LAUNCHER.encode())


def takes_any_python(script: bytes) -> bool:
    """Whether this is the script of a job with the runtime that names no Python of its own."""
    return script.startswith(_FIND.format(candidates=_ANY, check="").encode())
