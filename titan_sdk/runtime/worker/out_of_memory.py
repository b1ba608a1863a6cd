"""Detects kills for lack of memory. The kernel counts them for each control group."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, Optional

_GROUPS = "/proc/self/cgroup"
_ROOT = "/sys/fs/cgroup"


class OutOfMemoryKills:
    """The counter of the launcher's control group. The job runs in it; other jobs of the worker may share it."""

    def __init__(self) -> None:
        self._before = _count()

    def grew(self) -> bool:
        """Whether a kill was counted since. False if there is no counter."""
        return (_count() or 0) > (self._before or 0)


def _count() -> Optional[int]:
    for path in _counters():
        try:
            with open(path) as file:
                for line in file:
                    name, _, value = line.partition(" ")
                    if name == "oom_kill":
                        return int(value)
        except (OSError, ValueError):
            # The file is not mounted, or the path is one outside this container.
            pass
    return None


def _counters() -> Iterator[str]:
    try:
        with open(_GROUPS) as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if "memory" in controllers.split(","):
            # Version 1. In a container, its own group may be mounted as the root.
            yield _ROOT + "/memory" + group + "/memory.oom_control"
            yield _ROOT + "/memory/memory.oom_control"
        elif not controllers:
            yield _ROOT + group + "/memory.events"
            yield _ROOT + "/memory.events"
