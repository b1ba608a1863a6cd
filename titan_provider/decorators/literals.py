"""Writes values as Python expressions, which give equal values of the same types. Other values are refused."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

__all__ = ["PLAIN", "Literals", "Unwritable"]

PLAIN = "None, bools, numbers, texts, bytes, ranges, and lists, tuples, sets and dicts of them"
_DEEPEST = 50  # older versions of Python parse at most about a hundred nested brackets
_DIGITS = 10**4000  # Python refuses to print more in decimals


class Unwritable(Exception):
    """A value cannot be written as an expression. ``str()`` names it, as in ``['start'], a datetime.datetime``."""


class Literals:
    """Writes values in order. A list, dict or set that occurs twice gets a name, so that it stays one object."""

    def __init__(self, values: Iterable[Any]) -> None:
        """Find the objects that occur more than once.

        :param values: all values to write, in the order in which Python will evaluate them
        :raises Unwritable: a value cannot be written
        """
        self._met: set[int] = set()
        self._shared: set[int] = set()
        self._names: dict[int, str] = {}
        for value in values:
            self._meet(value, "", ())

    def write(self, value: Any) -> str:
        """The expression of a value."""
        if id(value) in self._names:
            return self._names[id(value)]
        text = self._write(value)
        if id(value) not in self._shared:
            return text
        name = self._names[id(value)] = f"_titan_value_{len(self._names) + 1}"
        return f"({name} := {text})"

    def _meet(self, value: Any, place: str, above: tuple[int, ...]) -> None:
        kind, this = type(value), id(value)
        if kind in _ATOMS:
            return
        if kind not in _CONTAINERS:
            name = kind.__qualname__
            raise Unwritable(
                f"{place}, a {name if kind.__module__ == 'builtins' else f'{kind.__module__}.{name}'}"
            )
        if this in above or len(above) > _DEEPEST:
            raise Unwritable(f"{place[:100]}, which contains itself or is nested more than {_DEEPEST} deep")
        if this in self._met:
            if kind not in (tuple, frozenset):
                self._shared.add(this)
            return
        self._met.add(this)
        if kind is dict:
            for key in value:
                if type(key) not in _ATOMS:
                    self._meet(key, f"{place}, with a key", (*above, this))
        items = value.items() if kind is dict else enumerate(value)
        for key, item in items:
            if type(item) not in _ATOMS:  # a shortcut for most items of a large table
                self._meet(item, f"{place}[{key!r}]", (*above, this))

    def _write(self, value: Any) -> str:
        kind = type(value)
        if kind is float and not math.isfinite(value):
            return "(1e999-1e999)" if math.isnan(value) else "1e999" if value > 0 else "-1e999"
        if kind is complex:
            return f"complex({self._write(value.real)}, {self._write(value.imag)})"
        if kind is int and not -_DIGITS < value < _DIGITS:
            return hex(value)
        if kind is dict:
            return "{" + ", ".join(f"{self.write(k)}: {self.write(v)}" for k, v in value.items()) + "}"
        if kind in (list, tuple, set, frozenset):
            inner = ", ".join(map(self.write, value))
            if kind is list:
                return f"[{inner}]"
            if kind is tuple:
                return f"({inner},)" if len(value) == 1 else f"({inner})"
            inner = f"{{{inner}}}" if value else "{*()}"
            return inner if kind is set else f"frozenset({inner})"
        return repr(value)


_ATOMS = (type(None), bool, int, float, complex, str, bytes, range, type(...))
_CONTAINERS = (list, tuple, set, frozenset, dict, bytearray)
