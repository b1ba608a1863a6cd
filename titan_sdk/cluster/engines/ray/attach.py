"""Runs a short-lived Ray driver, which finds or creates the dispatcher. The dispatcher then connects to this front."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys

from titan_sdk.cluster.engines.ray.values import Setup

__all__ = ["NotAttached", "attach"]

log = logging.getLogger(__name__)


class NotAttached(Exception):
    """No dispatcher will connect; one sentence. ``is_final``: not before this front's settings change."""

    def __init__(self, sentence: str, *, is_final: bool = False) -> None:
        super().__init__(sentence)
        self.is_final = is_final


async def attach(setup: Setup) -> None:
    """Wait until the dispatcher has connected. If it is cancelled, no process is left.

    Raises:
        NotAttached: there is no cluster, or it cannot be used.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "titan_sdk.cluster.engines.ray.inside.attach_driver",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C is the front's to handle.
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("TITAN_")},
    )
    try:
        told, errors = await process.communicate(setup.encode())
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if errors:
        log.debug("ray: %s", errors.decode("utf-8", "replace"))
    if not told:
        last_words = " ".join(errors.decode("utf-8", "replace").split())[-300:]
        raise NotAttached(
            f"the process that connects to Ray ended (exit code {process.returncode}): {last_words}"
        )
    failure = json.loads(told)
    if failure is not None:
        raise NotAttached(failure["sentence"], is_final=failure["is_final"])
