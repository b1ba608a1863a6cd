"""What goes wrong with a value on its way: it cannot be written, read, or its class is not allowed."""

from __future__ import annotations

__all__ = ["NotAllowed", "Refused", "Unreadable"]


class Refused(TypeError):
    """A value cannot be carried as it is. The sentence names its place inside the whole."""


class Unreadable(ValueError):
    """What was received is no value of this format, or this machine lacks what the value needs."""


class NotAllowed(Unreadable):
    """A value is of a class that the reader has not allowed; nothing was imported."""

    def __init__(self, message: str, class_name: str) -> None:
        super().__init__(message)
        self.class_name = class_name
        """As ``module.Class``."""
