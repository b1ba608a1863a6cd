"""The first line of the script that a worker gets for a job with the runtime.

``python -x`` skips a file's first line, so bash reads the first line only and Python all the others. A master that
starts the job itself may take Python at once where bash would find the same one.
"""

from __future__ import annotations

import shlex

__all__ = ["first_line", "takes_any_python"]

_ANY = "python3 python python3.{14,13,12,11,10,9,8}"
_FIND = (
    "shopt -s execfail;set -- {candidates};"
    'while [ $# -gt 0 ];do p=$1;shift;command -v -- "$p">/dev/null&&exec "$p" -EsSx "$0" "$@";done;'
)


def first_line(python: str | None, sentence: str) -> str:
    """Become this Python (``None``: the first on the PATH) on the rest of the file, or say the sentence."""
    candidates = _ANY if python is None else shlex.quote(python)
    return f"{_FIND.format(candidates=candidates)}echo {shlex.quote(sentence)};exit 98"


def takes_any_python(script: bytes) -> bool:
    """Whether this is the script of a job with the runtime that names no Python of its own."""
    return script.startswith(_FIND.format(candidates=_ANY).encode())
