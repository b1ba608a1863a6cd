"""The relay from a job to the front: a private Unix socket, and from there a connection to the front's present address.

Jobs therefore need no token, no TLS, and not the front's address, which may change while they run. The runtime and
`TitanClient` in a job use `TITAN_SOCKET`, as on a single machine.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress
from pathlib import Path

from titan_sdk.cluster.engines.ray.inside.node.front_connection import FrontConnection

__all__ = ["Relay"]

_PIECE = 65536
_BACKLOG = 64


class Relay:
    """Serves whenever the loop runs."""

    def __init__(self, folder: Path, line: FrontConnection) -> None:
        self._folder, self._line = folder, line
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.sock"
        self._server: asyncio.Server | None = None

    async def path(self) -> Path:
        """Where it listens from now on.

        Raises:
            OSError: the socket cannot be made.
        """
        if self._server is None:
            _remove_dead(self._folder)
            # Its folder is this user's alone.
            self._server = await asyncio.start_unix_server(self._serve, self._path, backlog=_BACKLOG)
        return self._path

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far = await self._line.connect()
        except OSError:
            writer.close()  # the job sees a closed connection, and tries again
            return
        ways = [
            asyncio.ensure_future(_copy(reader, far.writer)),
            asyncio.ensure_future(_copy(far.reader, writer)),
        ]
        try:
            # One side is gone, and so is the other.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            far.close()
            writer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(_PIECE):
            target.write(piece)
            await target.drain()


def _remove_dead(folder: Path) -> None:
    """Sockets of processes that are gone."""
    for path in folder.glob("*.sock"):
        pid = path.name.partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            path.unlink(missing_ok=True)
