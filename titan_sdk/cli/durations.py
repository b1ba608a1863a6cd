"""Durations as options of commands: seconds, or a text such as ``10m``."""

from __future__ import annotations

from typing import Any

import typer

from titan_sdk.config import parse_duration
from titan_sdk.errors import InvalidArgument

__all__ = ["DURATION"]


def _seconds(value: Any) -> float:
    try:
        return parse_duration(value, "", zero=True)
    except InvalidArgument as exc:
        raise typer.BadParameter(str(exc).strip()) from exc


DURATION: dict[str, Any] = {"parser": _seconds, "metavar": "DURATION"}
"""Arguments of a ``typer.Option`` whose value is a number of seconds."""
