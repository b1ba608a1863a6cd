"""A node's connection to the front, at the front's present address."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import ray

from titan_sdk.cluster.engines.ray.inside.dial_front import enter
from titan_sdk.cluster.engines.ray.stream import Stream
from titan_sdk.cluster.engines.ray.values import NAMESPACE, Front
from titan_sdk.errors import TitanError

__all__ = ["FrontConnection"]

_SECONDS = 5.0


class FrontConnection:
    """
    Args:
        dispatcher: the name of the actor that knows the front's address. It is found by name, because a service outlives
            its dispatcher.
    """

    def __init__(self, dispatcher: str) -> None:
        self._dispatcher = dispatcher
        self.front = b""
        """The front's last known address: from the order of a run, or from a look-up."""

    async def connect(self) -> Stream:
        """A connection to the front, after an accepted HELLO.

        Raises:
            OSError: the front cannot be reached at the moment.
        """
        try:
            return await self._enter()
        except OSError:
            self.front = await self._look_up() or self.front
            return await self._enter()

    async def _enter(self) -> Stream:
        try:
            async with asyncio.timeout(_SECONDS):
                return await enter(Front.decode(self.front))
        except (TitanError, ValueError) as exc:
            raise PermissionError("the front does not know the token of its nodes any more") from exc

    async def tell(self, run: str, node: str | None, answers: bool) -> None:
        """Report a run's begin to the dispatcher. A dispatcher that is gone will ask later, or repeat the run."""
        with suppress(ValueError):
            (await self._found()).heard.remote(run, node, answers)

    async def _look_up(self) -> bytes:
        try:
            # Await the future: while a task is in `ray.get`, Ray gives its CPU to another task.
            told = (await self._found()).front.remote().future()
            async with asyncio.timeout(_SECONDS):
                return bytes(await asyncio.wrap_future(told))
        except (ValueError, ray.exceptions.RayError, TimeoutError) as exc:
            raise OSError(f"the dispatcher does not tell where the front is: {exc}") from exc

    async def _found(self) -> Any:
        """The dispatcher.

        Raises:
            ValueError: there is none at the moment.
        """
        return await asyncio.to_thread(ray.get_actor, self._dispatcher, namespace=NAMESPACE)
