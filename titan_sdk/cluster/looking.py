"""An event loop that looks for the next request a moment before it sleeps.

A client with a kept connection that was just answered often asks again within microseconds, while a core that went to
sleep meanwhile takes longer than all of the request to wake. Only where the loop has a process of its own: in a
program's thread, looking would keep the program from running.
"""

from __future__ import annotations

import asyncio
import selectors
import time

__all__ = ["LOOKS_SKIPPED", "LOOK_SECONDS", "KeenLoop"]

LOOK_SECONDS = 200e-6
"""What a client takes from a reply to its next submission, also on a slow machine."""
LOOKS_SKIPPED = 15
"""After looking in vain several times: clients have something else to do, or no core to do it on. After the first time
none is skipped, then 1, 3, 7.
"""


class KeenSelector(selectors.DefaultSelector):
    """Sleeps as any other does, unless something is expected."""

    def __init__(self) -> None:
        super().__init__()
        self._expecting = False
        self._skip = self._skip_next = 0

    def expect(self) -> None:
        """Something may come at once."""
        self._expecting = True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See the base class."""
        if self._expecting and (timeout is None or timeout > 0):
            self._expecting = False
            if self._skip:
                self._skip -= 1
            elif found := self._look():
                return found
        return super().select(timeout)

    def _look(self) -> list[tuple[selectors.SelectorKey, int]]:
        until = time.perf_counter() + LOOK_SECONDS
        while time.perf_counter() < until:
            found = super().select(0)
            if found:
                self._skip_next = 0
                return found
        self._skip, self._skip_next = self._skip_next, min(2 * self._skip_next + 1, LOOKS_SKIPPED)
        return []


class KeenLoop(asyncio.SelectorEventLoop):
    """For a process that does nothing else."""

    def __init__(self) -> None:
        self._keen = KeenSelector()
        super().__init__(self._keen)
        self.expect = self._keen.expect
