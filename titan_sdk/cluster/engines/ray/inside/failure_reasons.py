"""The reason of a failed or lost run on Ray, as a sentence for the job's history."""

from __future__ import annotations

import re

import ray

from titan_sdk.cluster.engines.ray.inside.missing_package import WITHOUT_PACKAGE, lacks_package

__all__ = ["crashed", "failure_reason", "first_line"]


def failure_reason(exc: Exception, node: str | None) -> str:
    """The reason behind an exception of Ray; ``node`` is where the run began, if it did."""
    where = "its node" if node is None else f"node {node}"
    if isinstance(exc, ray.exceptions.OutOfMemoryError):
        return f"Ray ended it because memory ran out on {where}"
    if isinstance(exc, ray.exceptions.RuntimeEnvSetupError):
        return f"Ray could not prepare {where} for it: {first_line(exc)}"
    if lacks_package(exc):
        return f"{where} {WITHOUT_PACKAGE}"
    if isinstance(exc, ray.exceptions.NodeDiedError):
        return f"{where} died"
    if crashed(exc):
        return f"the worker process of Ray that ran it on {where} was ended from outside"
    told = _lines(exc)[-1] if isinstance(exc, ray.exceptions.RayTaskError) else _lines(exc)[0]
    return f"Ray lost it: {told[:300]}"


def crashed(exc: Exception) -> bool:
    """Whether a Ray process is gone, and perhaps its node."""
    return isinstance(exc, ray.exceptions.WorkerCrashedError | ray.exceptions.ActorDiedError)


def first_line(exc: Exception) -> str:
    """The first line of its text, without colours and traceback."""
    return _lines(exc)[0][:300]


def _lines(exc: Exception) -> list[str]:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(exc)).strip()
    return text.splitlines() or [type(exc).__name__]
