"""Rules for a job's ids, tags, file names and arguments: only texts that a real master reads back unchanged are allowed.

Titan's job lines have no escaping: they are cut at every ``;`` and ``|`` (protocol section 4.4). Without these rules a
user's text could change another job, so they refuse, and never alter. Each check returns the end of a sentence
("contains ';' ...") or ``None``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from enum import Enum
from numbers import Real

__all__ = [
    "CANCEL_GRACE",
    "DAG_PREFIX",
    "GATE_PREFIX",
    "INT32_MAX",
    "INT32_MIN",
    "INT64_MAX",
    "LONGEST_GRACE",
    "MAX_ID_LENGTH",
    "MAX_PROCESS_TEXT",
    "MAX_PROCESS_TEXTS",
    "MAX_REQUIREMENT_LENGTH",
    "as_text",
    "check_args",
    "check_filename",
    "check_id",
    "check_requirement",
    "full_id",
    "gate_id",
    "plain_text",
    "short_id",
]

DAG_PREFIX = "DAG-"
GATE_PREFIX = "hitl-gate-"
"""Begins the ids of approval gates (section 11.1)."""
MAX_ID_LENGTH = 200
"""The longest id. A worker cannot open a log file ``DAG-<id>.log`` of over 255 bytes; the job dies silently (4.4)."""
MAX_REQUIREMENT_LENGTH = 19
"""The longest tag. A requirement of 20 characters or more silently becomes GENERAL (section 4.3, rule 4)."""
CANCEL_GRACE = 5.0
"""The default of ``cancel_grace``: seconds between SIGTERM and SIGKILL of a job that is stopped."""
LONGEST_GRACE = 3600
MAX_PROCESS_TEXT = 128 * 1024 - 1
"""The largest argument in bytes, or variable with its name and the ``=``, without the final NUL (MAX_ARG_STRLEN)."""
MAX_PROCESS_TEXTS = 2 * 1024 * 1024
"""The largest size of all arguments and variables in bytes, with Linux's usual stack limit of 8 MiB."""
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
INT64_MAX = 2**63 - 1

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]+")
_INTEGER = re.compile(r"[+-]?\d+")


def full_id(job_id: str) -> str:
    """The id as the master stores it, with the prefix ``DAG-`` (section 4.1, rule 5)."""
    text = str.__str__(job_id)  # the value of a (str, Enum) member; an f-string would write its name
    return text if text.startswith(DAG_PREFIX) else DAG_PREFIX + text


def short_id(job_id: str) -> str:
    """The id as users write it, without ``DAG-``."""
    return str.__str__(job_id).removeprefix(DAG_PREFIX)


def gate_id(job_id: str) -> str:
    """The id of the approval gate behind a job."""
    return GATE_PREFIX + short_id(job_id)


def check_id(job_id: str) -> str | None:
    """The reason why this id cannot be used, or ``None``."""
    if not job_id or job_id == DAG_PREFIX:
        return "is empty; give the job a name"
    if not _SAFE_ID.fullmatch(job_id):
        bad = sorted({c for c in job_id if not _SAFE_ID.fullmatch(c)})
        return f"contains {_shown(bad)}; use letters, digits, '.', '_' and '-'"
    if len(short_id(job_id)) > MAX_ID_LENGTH:
        return f"is {len(job_id)} characters long; the limit is {MAX_ID_LENGTH}"
    if set(short_id(job_id)) <= {"."}:
        return "consists of dots only; give the job a name"
    return _refuse_internal_scale(job_id)


def check_filename(name: str) -> str | None:
    """The reason why this file name cannot stand in a job line, or ``None``."""
    if not name.strip():
        return "is empty"
    advice = "rename the file, or let the runtime carry it (runtime=True)"
    return _refuse_internal_scale(name) or _refuse(name, ";|\n", advice)


def check_args(args: str) -> str | None:
    """The reason why this argument text cannot stand in a job line, or ``None``."""
    advice = "use a script job with the runtime (runtime=True), which carries any text"
    return _refuse_internal_scale(args) or _refuse(args, ";|", advice)


def check_name(name: object) -> str | None:
    """The reason why this cannot be a name, or ``None``. An absent name is allowed."""
    if name is None:
        return None
    if not isinstance(name, str) or not name.strip():
        return "is not a text that names something"
    return check_process_text(name)


def check_flag(value: object) -> str | None:
    """The reason why this is not a boolean, or ``None``."""
    return None if isinstance(value, bool) else "is neither True nor False"


def check_value(value: object, serializer: str) -> str | None:
    """The reason why these ``params`` cannot be carried, or ``None``."""
    if value is None and serializer == "json":
        return None
    from titan_sdk.runtime.values import Refused, dump  # only for jobs with params

    try:
        dump(value, "params", serializer=serializer)
    except Refused as exc:
        return str(exc)
    return None


def check_process_text(text: str) -> str | None:
    """The reason why this text cannot be an argument or variable of a process, or ``None``."""
    if "\0" in text:
        return "contains a NUL character, which no process can be given"
    try:
        # Bytes that are not UTF-8 are allowed, in Python's own form (surrogateescape).
        size = len(text.encode("utf-8", "surrogateescape"))
        if size > MAX_PROCESS_TEXT:
            return (
                f"has {size:,} bytes; Linux gives a process arguments and variables of up to {MAX_PROCESS_TEXT:,}. "
                "Send it as params, or put it into a file (upload_file)"
            )
    except UnicodeEncodeError as exc:
        return f"contains {text[exc.start]!r}, half of a surrogate pair, which no process can be given"
    return None


def check_requirement(tag: str) -> str | None:
    """The reason why a master would not read this requirement as a tag, or ``None`` (section 4.3)."""
    if not tag.strip():
        return "is empty; name a tag such as GENERAL or GPU"
    if tag != tag.strip():
        return "has spaces at its edges; remove them"
    if len(tag) > MAX_REQUIREMENT_LENGTH:
        return (
            f"is {len(tag)} characters long; Titan silently takes a tag of over "
            f"{MAX_REQUIREMENT_LENGTH} characters for GENERAL"
        )
    if _INTEGER.fullmatch(tag):
        return "is a number, which Titan skips; put a letter in front"
    if tag in {"AFFINITY", "STICKY"} or tag.endswith("=") or (tag.startswith("[") and tag.endswith("]")):
        return "is read by Titan as something else than a tag; choose another word"
    return _refuse_internal_scale(tag) or _refuse(tag, ";|[]\n\r\t", "choose another word")


def _refuse_internal_scale(text: str) -> str | None:
    """Refuse INTERNAL_SCALE: anywhere in a job line it makes the job GENERAL (section 4.3, rule 1)."""
    if "INTERNAL_SCALE" in text:
        return "contains INTERNAL_SCALE, which Titan always sends to GENERAL; choose another word"
    return None


def _refuse(text: str, forbidden: str, advice: str) -> str | None:
    bad = [c for c in forbidden if c in text]
    if not bad:
        return None
    return f"contains {_shown(bad)}, which would corrupt the job line; {advice}"


def _shown(characters: Iterable[str]) -> str:
    return ", ".join(repr(c) for c in characters)


# ---------------------------------------------------------------------- what counts as text
#
# A member of a (str, Enum) counts as its value, although it may print as its name. In arguments and environment
# variables, a number or a boolean counts as the text that Python prints.


def plain_text(value: object) -> object:
    """A text as a plain ``str``: ``f"{Tag.GPU}"`` of a ``(str, Enum)`` would be its name. Other values are unchanged."""
    if isinstance(value, Enum) and isinstance(value.value, str):
        value = value.value
    return str.__str__(value) if isinstance(value, str) else value


def as_text(value: object) -> object:
    """The text of a text, number, boolean or path. Any other value is unchanged, and the caller refuses it.

    An Airflow template that renders to native values turns texts into numbers; they arrive as they were written.
    """
    if isinstance(value, Enum) and not isinstance(value, int):
        value = value.value
    from decimal import Decimal  # loaded only by programs that submit jobs

    if isinstance(value, bool | Real | Decimal):
        return str(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return str.__str__(value) if isinstance(value, str) else value
