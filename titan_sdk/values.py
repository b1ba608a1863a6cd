"""Python values as JSON, exactly, as they travel to a job and back: tuples, dates, arrays, frames, dataclasses.

    found = values.load(envelope, allowed_classes=["shop.models.*"])

The format is described in ``titan_sdk/runtime/values/__init__.py``, which also travels with each job; what is carried,
and how, in docs/values.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import titan_sdk.runtime.values as _values
from titan_sdk.errors import InvalidArgument, UnreadableValue
from titan_sdk.runtime.values import MARK, Envelope, is_envelope

__all__ = ["MARK", "Envelope", "dump", "is_envelope", "load", "opened"]


def dump(
    value: object,
    where: str = "value",
    *,
    serializer: str = "json",
    also: Callable[[Any], Any] | None = None,
) -> Any:
    """The value's JSON form: itself where JSON holds it as it is, else an envelope.

    Args:
        where: what the value is called in an error.
        serializer: ``cloudpickle`` pickles the whole value; whoever loads it runs what is in it.
        also: is asked about an object that cannot be carried: another value in its place, or ``NotImplemented``.

    Raises:
        InvalidArgument: a part of the value cannot be carried; the sentence names its place.
    """
    try:
        return _values.dump(value, where, also, serializer)
    except _values.Refused as exc:
        raise InvalidArgument(str(exc)) from None


def load(
    found: Any,
    *,
    allowed_classes: Iterable[Any] = (),
    serializer: str = "json",
    where: str = "value",
    setting: str = "",
) -> Any:
    """The value of a JSON form; what is no envelope is its own value. Nothing is imported because the data names it.

    Args:
        allowed_classes: classes of which objects may be made, or their names as ``module.Class``, in which ``*``
            stands for anything, or compiled regular expressions for such names. They are imported where an object of them is met.
        serializer: ``cloudpickle`` also loads pickled values. Only of a sender that you trust: a pickle can do anything.
        where: what the value is called in an error.
        setting: how a class is allowed, for the error that says so.

    Raises:
        UnreadableValue: it holds an object of another class, is damaged, or needs a package that is not here.
    """
    try:
        return _values.load(found, allowed_classes, where, setting, serializer)
    except _values.Unreadable as exc:
        raise UnreadableValue(str(exc), getattr(exc, "class_name", None)) from exc


def opened(found: Any) -> Any:
    """The value of a JSON form where it can be read without allowing any class, else the envelope as it is."""
    try:
        return load(found)
    except UnreadableValue:
        return Envelope(found)
