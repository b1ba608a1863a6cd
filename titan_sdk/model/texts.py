"""What counts as text: a member of an enumeration of texts is its value, whatever it would print as; and in arguments and
environment variables a number or a boolean is the text that Python prints.
"""

from __future__ import annotations

import os
from decimal import Decimal
from enum import Enum
from numbers import Real

__all__ = ["as_text", "plain_text"]


def plain_text(value: object) -> object:
    """A text as itself: ``f"{Tag.GPU}"`` of a ``class Tag(str, Enum)`` is its name. Anything else as it is."""
    if isinstance(value, Enum) and isinstance(value.value, str):
        value = value.value
    return str.__str__(value) if isinstance(value, str) else value


def as_text(value: object) -> object:
    """The text of a text, number, boolean or path; anything else as it is, for the caller to refuse.

    An Airflow template that renders to native values makes numbers of texts; they arrive as what was written.
    """
    if isinstance(value, Enum) and not isinstance(value, int):
        value = value.value
    if isinstance(value, bool | Real | Decimal):
        return str(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return str.__str__(value) if isinstance(value, str) else value
