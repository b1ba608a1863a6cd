"""Connects a Ray process to the front."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Sequence

from titan_sdk.cluster.engines.ray.stream import Stream
from titan_sdk.cluster.engines.ray.values import Front, FrontUnreachable, NodeState
from titan_sdk.config import is_loopback
from titan_sdk.errors import TitanError
from titan_sdk.wire import hello
from titan_sdk.wire.frames import encode_frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["dial", "enter"]

_SECONDS = 10.0
_HELP = "give --advertise-address HOST[:PORT] at which the cluster's nodes reach this front"


async def enter(front: Front) -> Stream:
    """A connection to the front, after an accepted HELLO.

    Raises:
        OSError: the front cannot be reached.
        ValueError, TitanError: another server answers, or the front refuses the connection.
    """
    reader, writer = await asyncio.open_connection(front.host, front.port, ssl=_tls_context(front))
    try:
        stream = Stream(reader, writer)
        writer.write(encode_frame(Opcode.HELLO, hello.request(front.token).encode()))
        hello.read_reply((await stream.receive_frame()).text)
    except BaseException:
        writer.close()
        raise
    return stream


def _tls_context(front: Front) -> ssl.SSLContext | None:
    """A context that trusts exactly this front's certificate, under any name or address."""
    if front.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=front.certificate)
    return context


async def dial(front: Front, here: str, nodes: Sequence[NodeState]) -> Stream:
    """The dispatcher's stream, once the front has taken it.

    Args:
        here: the address of this node.
        nodes: the cluster's nodes.

    Raises:
        FrontUnreachable: the front does not answer at its address, or other nodes cannot reach that address.
    """
    where = f"{front.host}:{front.port}"
    elsewhere = sorted({node.host for node in nodes} - {here})
    if elsewhere and is_loopback(front.host):
        raise FrontUnreachable(
            f"the nodes {', '.join(elsewhere)} of the Ray cluster cannot reach this front at {where}, which is an "
            f"address of their own machines; {_HELP}"
        )
    try:
        async with asyncio.timeout(_SECONDS):
            stream = await enter(front)
            try:
                stream.send("dispatcher", key=front.key)
                await stream.receive()
            except BaseException:
                stream.close()
                raise
            return stream
    except TimeoutError:
        problem = f"nothing answered within {_SECONDS:g} s"
    except OSError as exc:
        # The system's text is better than asyncio's.
        problem = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror or str(exc)
    except (ValueError, TitanError) as exc:
        problem = f"what answers there is not this front ({exc})"
    raise FrontUnreachable(
        f"the head of the Ray cluster ({here}) cannot reach this front at {where}: {problem}; {_HELP}"
    )
