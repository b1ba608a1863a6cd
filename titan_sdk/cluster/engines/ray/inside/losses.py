"""Why a run's outcome is unknown, in a sentence for the job's history."""

from __future__ import annotations

import asyncio
import re

import ray

from titan_sdk.cluster.engines.ray.inside.cluster_view import node_lives
from titan_sdk.cluster.engines.ray.inside.lacking import WITHOUT_PACKAGE, lacks_package
from titan_sdk.cluster.engines.ray.values import Began

__all__ = ["describe_loss", "first_line"]

_STEP = 0.25
_DEATH_SECONDS = 1.0
"""How much longer Ray may take to notice that a node is gone than that a process of it is."""


async def describe_loss(exc: Exception, began: Began | None) -> str:
    """What an exception of Ray's means for the run."""
    where = "its node" if began is None else f"node {began.node}"
    if isinstance(exc, ray.exceptions.OutOfMemoryError):
        return f"Ray ended it because memory ran out on {where}"
    if isinstance(exc, ray.exceptions.RuntimeEnvSetupError):
        return f"Ray could not prepare {where} for it: {first_line(exc)}"
    if lacks_package(exc):
        return f"{where} {WITHOUT_PACKAGE}"
    if isinstance(exc, ray.exceptions.NodeDiedError):
        return f"{where} died"
    if isinstance(exc, ray.exceptions.WorkerCrashedError | ray.exceptions.ActorDiedError):
        if began is not None and await _dies(began):
            return f"{where} died"
        return f"the worker process of Ray that ran it on {where} was ended from outside"
    return (
        f"Ray lost it: {_last_line(exc) if isinstance(exc, ray.exceptions.RayTaskError) else first_line(exc)}"
    )


async def _dies(began: Began) -> bool:
    """Whether the node is found dead within the time that Ray takes to notice."""
    for _ in range(int(_DEATH_SECONDS / _STEP)):
        if not await asyncio.to_thread(node_lives, began.node):
            return True
        await asyncio.sleep(_STEP)
    return False


def first_line(exc: Exception) -> str:
    """What it says, without colours and without its traceback."""
    return _lines(exc)[0][:300]


def _last_line(exc: Exception) -> str:
    """Where a traceback says what was raised."""
    return _lines(exc)[-1][:300]


def _lines(exc: Exception) -> list[str]:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(exc)).strip()
    return text.splitlines() or [type(exc).__name__]
