"""Detects nodes with Ray, but without this package. Does not import Ray, which the front may lack."""

from __future__ import annotations

import re

__all__ = ["WITHOUT_PACKAGE", "lacks_package"]

WITHOUT_PACKAGE = (
    "has Ray, but not this package in the front's version: install it there, or titan up with --ray-ship-code"
)


def lacks_package(exc: Exception) -> bool:
    """Whether the error says that the node lacks this package."""
    return re.search(r"(No module named|cannot import name .* from) 'titan_sdk\b", str(exc)) is not None
