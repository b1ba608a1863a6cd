"""Errors of values: a value cannot be written or read, or its class is not allowed."""

from __future__ import annotations

__all__ = ["NotAllowed", "Refused", "Unreadable"]


class Refused(TypeError):
    """A value cannot be carried exactly. The sentence names the place inside the whole value."""


class Unreadable(ValueError):
    """The data is not a value of this format, or the value needs a package that this machine does not have."""


class NotAllowed(Unreadable):
    """The value has a class that the reader has not allowed. Nothing was imported."""

    def __init__(self, message: str, class_name: str) -> None:
        super().__init__(message)
        self.class_name = class_name
        """The class as ``module.Class``."""
