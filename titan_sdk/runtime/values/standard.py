"""Imports from the standard library. In a job they go through `titan_job`, because the script's folder may hide modules."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["standard"]


def standard(name: str) -> Any:
    """The standard library's module of that name."""
    inside_job = getattr(sys.modules.get("titan_job"), "_standard", None)
    if inside_job is not None:
        return inside_job(name)
    __import__(name)
    return sys.modules[name]
