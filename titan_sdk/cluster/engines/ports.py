"""Ports of services that run on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket

__all__ = ["answers_here", "port_problem_here"]

_PROBE_SECONDS = 0.1


def port_problem_here(port: int) -> str | None:
    """The reason why no service can listen on the port now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as exc:
            return f"its port {port} cannot be used ({exc.strerror}); free it or choose another port"
    return None


async def answers_here(port: int) -> None:
    """Wait until the port accepts connections."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(_PROBE_SECONDS)
            continue
        writer.close()
        return
