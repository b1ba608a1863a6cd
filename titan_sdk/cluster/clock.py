"""Wall-clock times that never jump: taken from the system once, then advanced by the monotonic clock."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Unix seconds. Correcting the system's clock moves no deadline of a running master."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return self._offset + time.monotonic()
