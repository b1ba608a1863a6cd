"""Values as users write them: durations and ids; and those on their way to a job and back."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from titan_provider.exceptions import TitanFunctionRefused
from titan_sdk import InvalidArgument, UnreadableValue, values
from titan_sdk.config import parse_duration

if TYPE_CHECKING:
    from titan_sdk import JobReport

log = logging.getLogger(__name__)

__all__ = ["Duration", "as_id", "as_ids", "opened", "read_durations", "received", "to_json", "with_envelopes"]

Duration = float | str | timedelta
"""A number of the unit that its parameter names, a text such as ``10m``, or a timedelta."""

_DEEPEST = 200


def read_durations(task_id: str, *, zero: bool = False, **written: Any) -> list[Any]:
    """Seconds of each duration in the order given; None stays None.

    :param written: by parameter: a number of seconds, a text such as ``10m`` or ``1h30m``, or a timedelta
    :raises ValueError: one is none of these, or not above 0; 0 is allowed where ``zero`` is set
    """
    return [
        None if value is None else parse_duration(value, f"task {task_id!r}: {name}", zero=zero)
        for name, value in written.items()
    ]


def plain(value: Any) -> Any:
    """The value with the text of every member of a ``(str, Enum)`` in its place: Jinja would render its name."""
    if isinstance(value, str):
        return str.__str__(value)
    if type(value) is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value


def as_id(value: Any) -> Any:
    """A number as the text that it was before a template was rendered to native values; anything else as it is."""
    if isinstance(value, str):
        return str.__str__(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def as_ids(values: Any) -> Any:
    """As :func:`as_id`, for each member of a list."""
    return [as_id(value) for value in values] if isinstance(values, list | tuple) else values


def to_json(value: Any, where: str, serializer: str = "json") -> Any:
    """The JSON form in which a value travels to a job: itself where it is JSON, else an envelope of ``titan_sdk.values``.

    The lazy sequence of a mapped task's XComs becomes a list. An envelope inside it, which is what the XCom of a job may
    be, is the value that it stands for.

    :param where: name of the value in a refusal
    :param serializer: ``cloudpickle`` pickles all of it
    :raises TitanFunctionRefused: it cannot be sent without a change; the sentence names the place
    """
    try:
        value = with_envelopes(value, where) if serializer == "json" else _unpickled(value, serializer)
        return values.dump(value, where, serializer=serializer, also=_sequence)
    except (InvalidArgument, UnreadableValue) as exc:
        raise TitanFunctionRefused(str(exc)) from None


def _sequence(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, memoryview | range):
        return list(value)
    return NotImplemented


def _unpickled(value: Any, serializer: str) -> Any:
    """The value with what other tasks have pickled in it as it was."""
    if values.is_envelope(value):
        return values.load(value, allowed_classes=_allowed(), serializer=serializer, setting=_SETTING)
    if type(value) is dict:
        return {key: _unpickled(item, serializer) for key, item in value.items()}
    return type(value)([_unpickled(v, serializer) for v in value]) if type(value) in (list, tuple) else value


def with_envelopes(value: Any, where: str, depth: int = 0) -> Any:
    """The value with each dict in it that is an envelope marked as one.

    :raises TitanFunctionRefused: one of them is a pickle
    """
    kind = type(value)
    if depth > _DEEPEST or kind not in (dict, list, tuple):
        return value
    if kind is dict and values.is_envelope(value):
        tree = value["value"]
        if isinstance(tree, dict) and tree.get("$") == "pickle":
            raise TitanFunctionRefused(
                f"{where} is pickled by another task, and a pickle can run anything; to take it, set "
                "serializer='cloudpickle' here too"
            )
        return values.Envelope(value)
    pairs = list(value.items() if kind is dict else enumerate(value))
    marked = [with_envelopes(item, f"{where}[{key!r}]", depth + 1) for key, item in pairs]
    if all(new is old for new, (_, old) in zip(marked, pairs, strict=True)):
        return value  # itself: a refusal names the place where it contains itself
    return kind(marked) if kind is not dict else dict(zip(value, marked, strict=True))


def received(report: JobReport) -> Any:
    """A job's result as the value of its task: what Airflow's XCom backend stores without a change.

    A part that Airflow cannot store exactly, whose class it does not allow, or whose package is missing here, stays an
    envelope of ``titan_sdk.values``: readable, and a value again in the next job.
    """
    from titan_provider.xcom.base import exact_in_airflow, is_titan_backend  # not while DAG files are parsed

    if not values.is_envelope(report.received):
        return report.result
    keeps_all = is_titan_backend()
    return opened(report.received, "the result", lambda value: keeps_all or exact_in_airflow(value))


def opened(form: Any, where: str, accepts: Callable[[Any], bool] = lambda _: True) -> Any:
    """The value of a JSON form, or of a dict each value apart; what cannot be read here, and is said so in the log, or
    what is not accepted, stays an envelope.

    :param where: what the value is called in the log
    """
    if not values.is_envelope(form):
        return form
    tree = form["value"]
    if isinstance(tree, dict) and "$" not in tree:
        return {key: _opened(item, f"{where}[{key!r}]", accepts) for key, item in tree.items()}
    return _opened(tree, where, accepts)


def _opened(tree: Any, where: str, accepts: Callable[[Any], bool]) -> Any:
    envelope = {values.MARK: 1, "value": tree}
    try:
        value = values.load(envelope, allowed_classes=_allowed(), where=where, setting=_SETTING)
    except UnreadableValue as exc:
        log.warning("%s; it stays as it is, for a job to read", exc)
        return envelope
    return value if accepts(value) else envelope


_SETTING = "add it to [core] allowed_deserialization_classes"


def _allowed() -> list[Any]:
    from airflow.providers.common.compat.sdk import conf  # not while DAG files are parsed

    globs = conf.get("core", "allowed_deserialization_classes", fallback="").split()
    patterns = conf.get("core", "allowed_deserialization_classes_regexp", fallback="").split()
    return [*globs, *(re.compile(f"(?:{pattern}).*", re.DOTALL) for pattern in patterns)]
