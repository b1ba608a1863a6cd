"""A small HTTP server that answers as Titan's dashboard does, and records what it was sent."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Answer = tuple[int, str]


class HttpDashboard:
    """Serves until its block ends. ``answers`` maps "METHOD /path" to a status and a body."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.answers: dict[str, Answer] = {"POST /api/manifest/sync": (200, '{"status":"ok"}')}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def manifests(self) -> list[dict[str, Any]]:
        """What was synchronised, in order."""
        return [body for path, body in self.requests if path == "POST /api/manifest/sync"]

    def __enter__(self) -> HttpDashboard:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=60)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        board = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._answer(json.loads(body) if body and body != b"null" else None)

            def _answer(self, body: Any) -> None:
                line = f"{self.command} {self.path}"
                board.requests.append((line, body))
                status, text = board.answers.get(line, (404, '{"error":"not here"}'))
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
                return

        return Handler
