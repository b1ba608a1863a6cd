"""The trial by which a Ray cluster finds out whether it reaches its front: plain sockets, no Ray."""

from __future__ import annotations

import asyncio
import socket

import pytest

from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.engines.ray.inside.dial_front import dial
from titan_sdk.cluster.engines.ray.values import Front, FrontUnreachable, NodeState

HERE = NodeState("id", "127.0.0.1-id", "127.0.0.1", {"CPU": 1.0})
ELSEWHERE = NodeState("id-2", "10.0.0.7-id-2", "10.0.0.7", {"CPU": 1.0})
HELP = "; give --advertise-address HOST[:PORT] at which the cluster's nodes reach this front"


async def refusal(port: int, *nodes: NodeState) -> str:
    with pytest.raises(FrontUnreachable) as caught:
        await dial(Front("127.0.0.1", port, "key"), "127.0.0.1", nodes)
    assert str(caught.value).endswith(HELP)
    return str(caught.value).removesuffix(HELP)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def test_an_address_where_nobody_listens_is_named() -> None:
    port = closed_port()
    assert await refusal(port, HERE) == (
        f"the head of the Ray cluster (127.0.0.1) cannot reach this front at 127.0.0.1:{port}: Connection refused"
    )


async def test_loopback_is_no_address_for_nodes_of_other_machines() -> None:
    assert await refusal(9090, HERE, ELSEWHERE) == (
        "the nodes 10.0.0.7 of the Ray cluster cannot reach this front at 127.0.0.1:9090, which is an address of "
        "their own machines"
    )


async def test_another_master_is_not_taken_for_this_front() -> None:
    async with LocalCluster() as other:
        said = await refusal(other.port, HERE)
    assert "what answers there is not this front (UNKNOWN_OPCODE" in said


async def test_what_is_no_titan_is_not_taken_for_this_front() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        said = await refusal(server.sockets[0].getsockname()[1], HERE)
    assert "what answers there is not this front" in said
    assert "SSH" in said
