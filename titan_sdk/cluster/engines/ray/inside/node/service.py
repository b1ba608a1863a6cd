"""A service is a detached actor: it outlives the front, and the dispatcher that started it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from titan_sdk.cluster.engines.ray.inside.node.control import Control
from titan_sdk.cluster.engines.ray.inside.node.run import run_job

__all__ = ["ServiceActor", "service_name"]


def service_name(run: str) -> str:
    """The name of the actor of a run."""
    return f"service-{run}"


class ServiceActor:
    """Runs one service once; whether it is started again is the front's decision."""

    def __init__(self) -> None:
        self._ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._control = Control()

    async def run(
        self, order: bytes, front: bytes, about: tuple[str, str], archive: Sequence[Any] = ()
    ) -> None:
        """Until the service has ended; see ``run_job``."""
        try:
            self._ended.set_result(
                await asyncio.to_thread(run_job, order, front, about, archive, control=self._control)
            )
        except Exception as exc:  # noqa: BLE001 - told to whoever asks for the outcome
            self._ended.set_exception(exc)

    async def state(self) -> tuple[str | None, bool]:
        """On which node it is, and whether its port was seen to answer."""
        return self._control.node, self._control.answers

    async def stop(self) -> None:
        """End the service; ``outcome`` says when nothing of it is left."""
        self._control.stop()

    async def outcome(self) -> bytes:
        """How it ended, as ``run_job`` says it; answered when it has."""
        return await asyncio.shield(self._ended)
