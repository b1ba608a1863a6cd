"""Durations and ids as users write them, and the values that travel to a job and back."""

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
    """The seconds of each duration, in the given order. None stays None.

    :param written: by parameter name, a number of seconds, a text such as ``10m`` or ``1h30m``, or a timedelta
    :raises ValueError: a value is none of these, or not above 0; ``zero`` allows 0
    """
    return [
        None if value is None else parse_duration(value, f"task {task_id!r}: {name}", zero=zero)
        for name, value in written.items()
    ]


def plain(value: Any) -> Any:
    """The value with its text in place of each ``(str, Enum)`` member, because Jinja would render the member's name."""
    if isinstance(value, str):
        return str.__str__(value)
    if type(value) is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return value


def as_id(value: Any) -> Any:
    """A number as a text, because a template that is rendered to native values turns texts into numbers."""
    if isinstance(value, str):
        return str.__str__(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def as_ids(values: Any) -> Any:
    """:func:`as_id` of each member of a list."""
    return [as_id(value) for value in values] if isinstance(values, list | tuple) else values


def to_json(value: Any, where: str, serializer: str = "json") -> Any:
    """The JSON form of a value for a job: the value itself if it is JSON, otherwise an envelope of ``titan_sdk.values``.

    The lazy sequence of a mapped task's XComs becomes a list. The XCom of a job may be an envelope; inside the value, it
    counts as the value that it represents.

    :param where: name of the value in an error
    :param serializer: ``cloudpickle`` pickles the whole value
    :raises TitanFunctionRefused: the value cannot be sent exactly; the sentence names the place
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
    """The value, with each envelope in it replaced by its own value, pickles of other tasks included."""
    if values.is_envelope(value):
        return values.load(value, allowed_classes=_allowed(), serializer=serializer, setting=_SETTING)
    if type(value) is dict:
        return {key: _unpickled(item, serializer) for key, item in value.items()}
    return type(value)([_unpickled(v, serializer) for v in value]) if type(value) in (list, tuple) else value


def with_envelopes(value: Any, where: str, depth: int = 0) -> Any:
    """The value, with an ``Envelope`` in place of each dict that is one.

    :raises TitanFunctionRefused: an envelope is a pickle
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
        return value  # the same object, so that a value that contains itself is found later
    return kind(marked) if kind is not dict else dict(zip(value, marked, strict=True))


def received(report: JobReport) -> Any:
    """A job's result as the value of its task, in a form that Airflow's XCom backend stores exactly.

    A part stays an envelope of ``titan_sdk.values`` if Airflow cannot store it exactly, if its class is not allowed, or if
    its package is missing here. The envelope is readable, and the next job gets the value.
    """
    from titan_provider.xcom.base import exact_in_airflow, is_titan_backend  # not while DAG files are parsed

    if not values.is_envelope(report.received):
        return report.result
    keeps_all = is_titan_backend()
    return opened(report.received, "the result", lambda value: keeps_all or exact_in_airflow(value))


def opened(form: Any, where: str, accepts: Callable[[Any], bool] = lambda _: True) -> Any:
    """The value of a JSON form. The values of a dict are read one by one.

    A value that cannot be read here, or is not accepted, stays an envelope. The log has a warning if it cannot be read.

    :param where: the name of the value in the log
    """
    if not values.is_envelope(form):
        return form
    tree = form["value"]
    if isinstance(tree, dict) and "$" not in tree:
        # Airflow 2 keeps a tuple, but not one inside a dict: so each value is tried in a dict.
        return {
            key: _opened(item, f"{where}[{key!r}]", lambda value: accepts({"": value}))
            for key, item in tree.items()
        }
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
