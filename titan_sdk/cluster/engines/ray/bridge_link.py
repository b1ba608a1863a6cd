"""The front's end of the bridge: starts the process, and another one when it is gone."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from titan_sdk.cluster.engines.ray import pipes
from titan_sdk.cluster.engines.ray.values import Setup

__all__ = ["BridgeLink"]

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
_STOP_SECONDS = 10.0


class BridgeLink:
    """Belongs to the loop's thread.

    Args:
        heard: called with every word of the bridge, and with ``("lost", sentence)`` when there is none any more.
    """

    def __init__(self, setup: Callable[[], Setup], heard: Callable[..., None]) -> None:
        self._setup = setup
        self._heard = heard
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._last_words: collections.deque[str] = collections.deque(maxlen=20)

    def open(self) -> None:
        """Begin, and go on until ``close``."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def stop(self) -> None:
        """Start no other process when this one ends."""
        self._stopped = True

    def send(self, *words: object) -> None:
        """Give a command; dropped while there is no bridge, whose successor is told everything anew."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(pipes.dump(words))

    async def close(self) -> None:
        """End the process. What it was told before is carried out."""
        if self._task is None:
            return
        self._stopped = True
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopped:
            if await self._serve():
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _serve(self) -> bool:
        """One process, until it is gone; whether it was of use."""
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "titan_sdk.cluster.engines.ray.inside.bridge",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C is the front's to handle.
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("TITAN_")},
        )
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.get_running_loop().create_task(self._read_errors(process.stderr))
        of_use, sentence = False, ""
        self.send_setup()
        try:
            while True:
                words: tuple[Any, ...] = await pipes.receive(process.stdout)
                if words[0] == "failed":
                    sentence = words[1]
                else:
                    of_use = of_use or words[0] == "attached"
                    self._heard(*words)
        except EOFError:
            pass  # it is gone
        finally:
            self._process = None
            errors.cancel()
        code = await process.wait()
        sentence = sentence or (
            f"the process that is connected to Ray ended (exit code {code}): {' '.join(self._last_words)[-300:]}"
        )
        if not self._stopped:
            log.warning("%s", sentence)
        self._heard("lost", sentence)
        return of_use

    def send_setup(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(pipes.dump(self._setup()))

    async def _read_errors(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            text = line.decode("utf-8", "replace").strip()
            self._last_words.append(text)
            log.debug("ray: %s", text)
