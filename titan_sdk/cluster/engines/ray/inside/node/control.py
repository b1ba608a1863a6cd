"""What a run is told, and what is told of it; shared by its threads."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

__all__ = ["Control", "by_interrupt"]


class Control:
    """For one run; ``wake`` becomes readable when it is to be ended."""

    def __init__(self) -> None:
        self.is_stopped = False
        self.node: str | None = None
        """Where it has begun."""
        self.answers = False
        """Whether a service's port was seen to answer."""
        self.wake, self.alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def stop(self, *_: object) -> None:
        """End the run; from any thread, or as a signal's handler."""
        self.is_stopped = True
        with contextlib.suppress(BlockingIOError):
            os.write(self.alarm, b".")

    def hush(self) -> None:
        """Forget the rings so far."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)

    def close(self) -> None:
        os.close(self.wake)
        os.close(self.alarm)


@contextlib.contextmanager
def by_interrupt() -> Iterator[Control]:
    """SIGINT, by which Ray cancels a task that has begun, ends the run; for the main thread."""
    control = Control()
    handler = signal.signal(signal.SIGINT, control.stop)
    # Ray interrupts the interpreter, and no system call: this descriptor is what wakes it.
    descriptor = signal.set_wakeup_fd(control.alarm, warn_on_full_buffer=False)
    try:
        yield control
    finally:
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGINT, handler)
        control.close()
