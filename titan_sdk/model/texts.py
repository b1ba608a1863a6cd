"""What counts as text in arguments and environment variables: numbers and booleans are the text that Python prints."""

from __future__ import annotations

import os
from decimal import Decimal
from enum import Enum
from numbers import Real

__all__ = ["as_text"]


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
