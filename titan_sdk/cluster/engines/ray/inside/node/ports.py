"""Whether something listens on a port of this machine."""

from __future__ import annotations

import socket

__all__ = ["listens"]


def listens(port: int) -> bool:
    """Whether it accepts connections now."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
