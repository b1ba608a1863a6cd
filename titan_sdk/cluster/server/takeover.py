"""A reply that is none: from now on, the connection is somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

__all__ = ["TakeOver"]


@dataclass(frozen=True, slots=True)
class TakeOver:
    """What a handler returns to have the connection of the request for itself, until ``serve`` returns."""

    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
