"""A service is a detached actor: it outlives the front, and the dispatcher that started it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from titan_sdk.cluster.engines.ray.inside.node.run import NodeRun

__all__ = ["ServiceActor", "service_name"]


def service_name(run: str) -> str:
    """The name of the actor of a run."""
    return f"service-{run}"


class ServiceActor:
    """Runs one service once; whether it is started again is the front's decision."""

    def __init__(self) -> None:
        self._ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._run: NodeRun | None = None

    async def run(
        self, order: bytes, front: bytes, about: tuple[str, str], archive: Sequence[Any] = ()
    ) -> None:
        """Until the service has ended; see ``run_job``."""
        try:
            self._run = NodeRun(order, front, about, self._stop)
            self._ended.set_result(await self._run.to_end(archive))
        except Exception as exc:  # noqa: BLE001 - told to whoever asks for the outcome
            self._ended.set_exception(exc)

    async def state(self) -> tuple[str | None, bool]:
        """On which node it is, and whether its port was seen to answer."""
        return (None, False) if self._run is None else self._run.state

    async def stop(self) -> None:
        """End the service; ``outcome`` says when nothing of it is left."""
        self._stop.set()

    async def outcome(self) -> bytes:
        """How it ended, as ``run_job`` says it; answered when it has."""
        return await asyncio.shield(self._ended)
