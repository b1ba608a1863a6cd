"""Starts a node's worker process, says where its socket is, and ends when stdin does. Run as a module."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from titan_sdk.cluster.worker.client import spawn

__all__ = ["main"]


async def _start(sockets: str, owner: str, state: str, runtime: str) -> None:
    worker = await spawn(Path(sockets), owner, Path(state), runtime, dict(os.environ))
    sys.stdout.write(f"{worker.path}\n")
    sys.stdout.flush()
    # It would end before the run that wants it is there, were nobody connected.
    await asyncio.to_thread(sys.stdin.read)
    await worker.close()
    worker.abandon()


def main() -> None:
    """Start it."""
    asyncio.run(_start(*sys.argv[1:5]))


if __name__ == "__main__":
    main()
