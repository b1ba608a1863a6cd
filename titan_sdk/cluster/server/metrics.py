"""Prometheus metrics and the health check, over HTTP on their own port. They show counts and tags, no ids."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from titan_sdk.cluster.server.server import Server
from titan_sdk.errors import InvalidArgument, TitanError
from titan_sdk.wire.opcodes import Opcode

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["MetricsServer"]

_REQUEST_SECONDS = 5.0
_REQUEST_BYTES = 8192
_MAX_CLIENTS = 32


class MetricsServer:
    """Answers ``GET /metrics`` and ``GET /health``.

    Args:
        health: whether requests are served, and the body of the answer.
        collect: the master's numbers.

    Raises:
        InvalidArgument: the package ``prometheus_client`` is not installed.
    """

    def __init__(
        self,
        server: Server,
        health: Callable[[], tuple[bool, dict[str, Any]]],
        collect: Callable[[], Iterator[Metric]],
    ) -> None:
        try:
            import prometheus_client
        except ImportError as exc:
            raise InvalidArgument(
                "metrics need the package prometheus_client; `pip install prometheus-client` brings it, or leave the "
                "metrics port out"
            ) from exc
        self._health = health
        registry = prometheus_client.CollectorRegistry()
        registry.register(_Collector(server, collect))
        prometheus_client.ProcessCollector(registry=registry)
        self._render: Callable[[], bytes] = lambda: prometheus_client.generate_latest(registry)
        self._kind = prometheus_client.CONTENT_TYPE_LATEST
        self._listener: asyncio.Server | None = None
        self._clients = 0

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Serve, and return the address.

        Raises:
            TitanError: the port cannot be used.
        """
        try:
            self._listener = await asyncio.start_server(
                self._serve, host, port, limit=_REQUEST_BYTES, backlog=_MAX_CLIENTS
            )
        except OSError as exc:
            raise TitanError(
                f"cannot serve metrics on {host}:{port}: {exc.strerror or exc}; give another metrics port"
            ) from exc
        bound = self._listener.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= _MAX_CLIENTS:
                async with asyncio.timeout(_REQUEST_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._reply(head))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a malformed request is closed
        finally:
            self._clients -= 1
            writer.close()

    def _reply(self, head: bytes) -> bytes:
        method, path, *_ = [*head.split(b"\r\n", 1)[0].split(b" "), b"", b""]
        path = path.partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            status, kind, body = "405 Method Not Allowed", "text/plain", b"GET only\n"
        elif path == b"/metrics":
            status, kind, body = "200 OK", self._kind, self._render()
        elif path == b"/health":
            serves, told = self._health()
            status = "200 OK" if serves else "503 Service Unavailable"
            kind, body = "application/json", json.dumps(told).encode()
        else:
            status, kind, body = "404 Not Found", "text/plain", b"/metrics and /health are here\n"
        header = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return header.encode("ascii") + (b"" if method == b"HEAD" else body)


class _Collector:
    """Reads the numbers at each request."""

    def __init__(self, server: Server, collect: Callable[[], Iterator[Metric]]) -> None:
        self._server, self._collect = server, collect

    def collect(self) -> Iterator[Metric]:
        yield from self._collect()
        yield from self._network()

    def _network(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        server = self._server
        yield GaugeMetricFamily("titan_connections", "Open connections", server.connections)
        yield GaugeMetricFamily("titan_requests_running", "Requests being answered", server.requests)
        yield GaugeMetricFamily("titan_buffered_bytes", "Bytes kept in memory for peers", server.buffered)
        yield CounterMetricFamily("titan_peers_dropped", "Peers dropped for lack of room", server.dropped)
        yield CounterMetricFamily("titan_refused", "Requests without the token", server.access.refused)
        requests = CounterMetricFamily("titan_requests", "Requests answered", labels=["operation"])
        for opcode, number in sorted(server.answered.items()):
            requests.add_metric([_name(opcode)], number)
        yield requests


def _name(opcode: int) -> str:
    try:
        return Opcode(opcode).name
    except ValueError:
        return "unknown"
