"""Nodes that have Ray, but not this package. Without Ray, which the front may lack, too."""

from __future__ import annotations

import re

__all__ = ["WITHOUT_PACKAGE", "lacks_package"]

WITHOUT_PACKAGE = (
    "has Ray, but not this package in the front's version: install it there, or titan up with --ray-ship-code"
)


def lacks_package(exc: Exception) -> bool:
    """Whether a node said so when it was to run something."""
    return re.search(r"(No module named|cannot import name .* from) 'titan_sdk\b", str(exc)) is not None
