"""Which keeper starts a run: one for all programs, and fork servers per worker for Python jobs if asked for."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from titan_sdk.cluster.engines.keeper_link import Keeper, Kind, Launch

__all__ = ["Keepers"]

_FORKS = 1000
"""Jobs after which a fork server gives way to a fresh one: its children share its hash seed and addresses."""

Environment = Callable[[str], Mapping[str, str]]


class Keepers:
    """Starts keepers when they are needed, and ends them when nothing of them is left."""

    def __init__(
        self,
        exits: Path,
        environment: Environment,
        heard: Callable[[str, str], None],
        lost: Callable[[Keeper], None],
    ) -> None:
        self._exits = exits
        self._environment = environment
        self._heard, self._lost = heard, lost
        self._current: dict[tuple[str, Kind], Keeper] = {}
        self._live: dict[Keeper, int] = {}
        """Launches of each keeper whose end was not heard of."""
        self._is_first: dict[str, bool] = {}

    def is_first_python(self, worker: str) -> bool:
        """Whether a shell on this worker would find this very Python as ``python3``."""
        if worker not in self._is_first:
            environment = self._environment(worker)
            found = shutil.which("python3", path=environment.get("PATH"))
            self._is_first[worker] = (
                found is not None
                and os.path.dirname(found) == os.path.dirname(sys.executable)
                and os.path.samefile(found, sys.executable)
                and "BASH_ENV" not in environment
            )
        return self._is_first[worker]

    def reserve(self, worker: str, kind: Kind) -> Keeper:
        """The keeper that the next run on this worker belongs to.

        Raises:
            OSError: no process can be started.
        """
        key = ("" if kind is Kind.COLD else worker, kind)
        keeper = self._current.get(key)
        if keeper is not None and kind is not Kind.COLD and keeper.launched >= _FORKS:
            keeper = None
        if keeper is None:
            keeper = self._current[key] = Keeper(
                self._exits, self._environment(worker), kind, heard=self._heard, lost=self._on_lost
            )
            self._live[keeper] = 0
        self._live[keeper] += 1
        return keeper

    def launch(self, keeper: Keeper, launch: Launch) -> None:
        """Start a reserved run."""
        keeper.launch(launch, self._environment(launch.worker))

    def done(self, keeper: Keeper) -> None:
        """A reserved run is over, or will not be."""
        if keeper not in self._live:
            return
        self._live[keeper] -= 1
        if not self._live[keeper] and keeper not in self._current.values():
            del self._live[keeper]
            keeper.stop()

    def stop(self) -> None:
        """No run is left: end all of them."""
        for keeper in self._live:
            keeper.stop()
        self._live.clear()
        self._current.clear()

    def abandon(self) -> None:
        """Leave all of them to themselves; each ends after its last run."""
        for keeper in self._live:
            keeper.abandon()
        self._live.clear()
        self._current.clear()

    def _on_lost(self, keeper: Keeper) -> None:
        self._live.pop(keeper, None)
        for key in [key for key, current in self._current.items() if current is keeper]:
            del self._current[key]
        self._lost(keeper)
