"""Python values as exact JSON, on their way to a job and back: tuples, dates, arrays, frames, dataclasses.

    found = values.load(envelope, allowed_classes=["shop.models.*"])

``titan_sdk/runtime/values/__init__.py`` describes the format, and travels with each job. docs/values.md lists the types.
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
    """The JSON form of a value: the value itself if JSON can hold it, otherwise an envelope.

    Args:
        where: the name of the value in an error.
        serializer: ``cloudpickle`` pickles the whole value. Loading it runs the code in it.
        also: called with an object that cannot be carried. It returns a value in its place, or ``NotImplemented``.

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
    """The value of a JSON form. Anything but an envelope is its own value. The data alone never causes an import.

    Args:
        allowed_classes: the classes that objects may have: classes, names such as ``module.Class`` (``*`` matches
            anything), or compiled regular expressions for such names. A class is imported if the value has an object of
            it.
        serializer: ``cloudpickle`` also loads pickled values. A pickle can run any code, so trust its sender.
        where: the name of the value in an error.
        setting: the way to allow a class, for the error's sentence.

    Raises:
        UnreadableValue: the value has an object of another class, is damaged, or needs a package that is not installed.
    """
    try:
        return _values.load(found, allowed_classes, where, setting, serializer)
    except _values.Unreadable as exc:
        raise UnreadableValue(str(exc), getattr(exc, "class_name", None)) from exc


def opened(found: Any) -> Any:
    """The value of a JSON form if it needs no class; otherwise the envelope."""
    try:
        return load(found)
    except UnreadableValue:
        return Envelope(found)
