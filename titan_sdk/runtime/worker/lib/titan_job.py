"""What a script that runs as a Titan job may ask and tell. Nothing to install: it travels with the job.

    import titan_job

    titan_job.params["rows"]                    # what the submitter passed as params
    titan_job.progress(0.5, "half way")         # shown while the job runs
    titan_job.result({"accuracy": 0.97})        # JSON; the submitter reads it from the job's handle

Shell scripts: ``python3 -m titan_job params [KEY]``, ``progress 0.5 [TEXT]``, ``result JSON``. Outside a Titan
job, so that scripts can be tried by hand, params are None and results and progress are checked, not stored.
"""

from __future__ import annotations

import json
import math
import os
import sys
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Tuple

    params: Any
    """What the submitter passed as ``params``: any JSON value."""

__all__ = ["attempt", "job_id", "params", "progress", "result"]

RESULT_LIMIT = 64 * 1024 * 1024

job_id: Optional[str] = os.environ.get("TITAN_JOB_ID")
"""Full id of this job, with ``DAG-``; None outside a Titan job."""

attempt: int = int(os.environ.get("TITAN_ATTEMPT") or 0)
"""1 for the first start of this job's code; 0 outside a Titan job."""


def __getattr__(name: str) -> Any:
    if name != "params":
        raise AttributeError("module %r has no attribute %r" % (__name__, name))
    folder = os.environ.get("TITAN_JOB_DIR")
    value = None
    if folder is not None:
        with open(os.path.join(folder, "params.json"), encoding="ascii") as file:
            value = json.load(file)
    # Read once, so that a script sees its own changes to it.
    globals()["params"] = value
    return value


def result(value: Any) -> None:
    """Set the job's result; the last call counts.

    Args:
        value: None, bool, int, finite float, str, and lists, tuples (stored as lists) and dicts with text keys
            of these; at most 64 MiB as JSON.

    Raises:
        TypeError, ValueError: not JSON; the message names the place inside the value.
    """
    _check(value)
    text = json.dumps(value, allow_nan=False)
    if len(text) > RESULT_LIMIT:
        raise ValueError(
            "the result has %d bytes as JSON; the limit is %d. Write it to a file and upload that"
            % (len(text), RESULT_LIMIT)
        )
    _store("result", text)


def progress(fraction: Optional[float], text: str = "") -> None:
    """Tell how far the job is: `fraction` from 0 to 1, or None if unknown. The submitter sees it within seconds."""
    if fraction is not None:
        fraction = float(fraction)
        if not 0 <= fraction <= 1:
            raise ValueError("progress takes a fraction from 0 to 1, or None, not %r" % fraction)
    _store("progress", json.dumps({"fraction": fraction, "text": str(text)}))


def _store(name: str, text: str) -> None:
    folder = os.environ.get("TITAN_JOB_DIR")
    if folder is None:
        warnings.warn(
            "not inside a Titan job (TITAN_JOB_DIR is not set): the %s is not stored" % name,
            RuntimeWarning,
            stacklevel=3,
        )
        return
    path = os.path.join(folder, name + ".json")
    temporary = "%s.%d" % (path, os.getpid())
    with open(temporary, "w", encoding="ascii") as file:
        file.write(text)
    # Whole or not at all, should the job be killed meanwhile.
    os.replace(temporary, path)


def _check(root: Any) -> None:
    """Refuse what JSON would change or cannot hold, by its place; without recursion, as depth is the caller's."""
    waiting: List[Tuple[str, Any, Tuple[int, ...]]] = [("result", root, ())]
    while waiting:
        where, value, above = waiting.pop()
        if value is None or isinstance(value, (bool, int, str)):
            continue
        if isinstance(value, float):
            if not math.isfinite(value):
                raise ValueError("%s is %r, which JSON cannot hold" % (where, value))
        elif isinstance(value, (dict, list, tuple)):
            if id(value) in above:
                raise ValueError("%s contains itself" % where)
            if len(above) >= 200:
                raise ValueError("%s... is nested more than 200 deep" % where[:100])
            inside = above + (id(value),)
            if not isinstance(value, dict):
                waiting.extend(("%s[%d]" % (where, i), item, inside) for i, item in enumerate(value))
                continue
            for key, item in value.items():
                if not isinstance(key, str):
                    raise TypeError(
                        "%s has the key %r of type %s; JSON keys are texts" % (where, key, type(key).__name__)
                    )
                waiting.append(("%s[%r]" % (where, key), item, inside))
        else:
            kind = "%s.%s" % (type(value).__module__, type(value).__qualname__)
            raise TypeError("%s is of type %s, which is not JSON; convert it first" % (where, kind))


def _command(arguments: List[str]) -> int:
    words = [os.fsencode(word).decode("utf-8", "surrogateescape") for word in arguments]
    verb = words[0] if words else ""
    try:
        if verb == "result" and len(words) == 2:
            result(json.loads(words[1]))
        elif verb == "progress" and 2 <= len(words) <= 3:
            progress(None if words[1] == "-" else float(words[1]), *words[2:])
        elif verb == "params" and len(words) <= 2:
            value = __getattr__("params")
            if len(words) == 2:
                value = value[words[1]]
            print(value if isinstance(value, str) else json.dumps(value))
        else:
            print(
                "usage: python3 -m titan_job result JSON | progress FRACTION|- [TEXT] | params [KEY]",
                file=sys.stderr,
            )
            return 2
    except (ValueError, TypeError, KeyError) as exc:
        print("titan_job %s: %s: %s" % (verb, type(exc).__name__, exc), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_command(sys.argv[1:]))
