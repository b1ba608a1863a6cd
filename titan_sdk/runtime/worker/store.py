"""The launcher's small client of the Titan protocol, with bounded waits and retries. It sends one request per connection,
unless the worker's environment says that the master keeps connections.

A real master answers ``OK`` to a write that its store has never seen, so important writes are read back. A bundled master
carries out a change once, however often it is sent (``titan_sdk/wire/exactly_once.py``), and stores it before its answer.
"""

from __future__ import annotations

import _thread
import binascii
import os
import time

from . import limits
from .c_modules import dumps, sha256, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

    T = TypeVar("T")

KV_SET, KV_GET, UPLOAD_ASSET, FETCH_ASSET = 0x60, 0x61, 0x53, 0x54
KV_SADD, JOB_STATUS, CANCEL, HELLO, ONCE, STORE_SWAP = 0x62, 0x55, 0x56, 0x40, 0x4A, 0x48
ASSET_READ = 0x45


class StoreError(Exception):
    """A request to the master failed. Trying again may help."""


class Contended(Exception):
    """The stored value is another copy's; ``args[0]`` is its text."""


class _Channel:
    """Numbers the requests of one thread (ONCE)."""

    def __init__(self) -> None:
        self.name, self.number, self.id = binascii.hexlify(os.urandom(8)), 0, b""
        self.request: Any = None
        """The request without a reply so far."""

    def begin(self, request: Any) -> None:
        if request != self.request:
            self.request, self.number = request, self.number + 1
            self.id = b"%s-%d-%s" % (self.name, self.number, binascii.hexlify(os.urandom(4)))


class StoreConnection:
    """The connection to the master and its store, at the worker's address of it."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.address = "%s:%d" % (host, port)
        self._route: Any = None
        self._keeps = os.environ.get("TITAN_KEEP_ALIVE") == "1"
        # A connection is taken out while it is in use, because two threads send requests.
        self._kept: List[Any] = []
        self._takes_ids = False
        self.trusted = False
        """Whether the master is trusted: it stores what it acknowledges, gives a job to one launcher at a time, starts no
        cancelled job and no child before its parents have completed, and keeps this process's stdout as the job's log.
        Known after ``meet``.
        """
        self._channels: Dict[int, _Channel] = {}
        """The channels by thread: each thread has one request under way."""
        self.away = False
        """Whether the last attempt could not connect."""
        self.back_at = time.monotonic()
        """Since when the master has been reachable."""

    def meet(self) -> None:
        """Send HELLO, if the worker's environment says that the master knows it."""
        if self._keeps and not self._kept:
            try:
                sock, said = self._greeted()
            except OSError as exc:
                raise self._unreachable(exc) from None
            self.trusted = b'"run_logs"' in said
            if said.startswith(b"{"):
                self._kept.append(sock)
            else:
                sock.close()

    def forget_connections(self) -> None:
        """In a fork, forget the connections: they belong to the other process."""
        while self._kept:
            # Their descriptors are closed, and the numbers may mean other files by now.
            self._kept.pop().detach()
        self._channels.clear()

    def get(self, key: str) -> Optional[str]:
        """A value of the runtime (each begins with ``{``), or None if there is none or the store is down."""
        text = self.call(KV_GET, key.encode("ascii")).decode("utf-8", "replace")
        if text == "NULL":
            return None
        if text.startswith("{"):
            return text
        raise StoreError("master %s answered %r to a read of %s" % (self.address, text[:200], key))

    def set(self, key: str, text: str) -> None:
        reply = self.call(KV_SET, ("%s|%s" % (key, text)).encode("ascii"))
        if reply != b"OK":
            raise StoreError("master %s answered %r to a write of %s" % (self.address, reply[:200], key))

    def swap(self, key: str, expected: Optional[str], text: Optional[str]) -> bool:
        """Write, or delete (``None``), if the key holds ``expected`` (``None``: is absent). Only on a trusted master. Returns whether it did."""
        reply = self.call(STORE_SWAP, swap_request(key, expected, text).encode("ascii"))
        if not reply.startswith(b'{"swapped":'):
            raise StoreError("master %s answered %r to a write of %s" % (self.address, reply[:200], key))
        return b"true" in reply

    def confirm(self, key: str, text: str) -> None:
        """Write, and read the same text back unless the master is trusted."""
        if self.trusted:
            self.set(key, text)
            return
        try:
            self.set(key, text)
        except StoreError:
            # Perhaps only the reply was lost. Then the value is there, and a second write could undo a later one.
            if self.get(key) != text:
                raise
        seen = self.get(key)
        if seen is None:
            raise StoreError("the store behind master %s does not keep what is written to it" % self.address)
        if seen != text:
            raise Contended(seen)

    def asset(self, name: str, digest: str) -> bytes:
        """An uploaded file with the expected SHA-256. Any other is refused, as it may be half overwritten."""
        text = self.call(FETCH_ASSET, name.encode("utf-8"))
        try:
            data = binascii.a2b_base64(text)
        except binascii.Error:
            data = b""
        if sha256(data).hexdigest() != digest:
            raise StoreError(
                "master %s does not hold asset %s intact (reply of %d bytes beginning %r)"
                % (self.address, name, len(text), text[:40])
            )
        return data

    def asset_piece(self, name: str, digest: str, offset: int) -> bytes:
        """What follows in an uploaded file of that SHA-256, at a master that is trusted."""
        asked = '{"name":%s,"offset":%d,"sha256":%s}' % (dumps(name), offset, dumps(digest))
        head, _, content = self.call(ASSET_READ, asked.encode("ascii")).partition(b"\n")
        if not head.startswith(b"{") or not content:
            raise StoreError("master %s does not hold asset %s intact: %r" % (self.address, name, head[:200]))
        return content

    def cancelled(self, full_id: str) -> bool:
        """Whether the master says that the job is cancelled. Asked twice: a real master may mix up one reply."""
        try:
            return all(self.call(JOB_STATUS, full_id.encode("ascii")) == b"CANCELLED" for _ in range(2))
        except StoreError:
            return False

    def cancel(self, full_id: str) -> None:
        """Cancel this job on the master. A real one then kills the asking process."""
        try:
            self.call(CANCEL, full_id.encode("ascii"))
        except StoreError:
            # The record says the same.
            pass

    def upload(self, name: str) -> bytes:
        """The present content of an uploaded file.

        Raises:
            FileNotFoundError: the master has none of that name.
        """
        text = self.call(FETCH_ASSET, name.encode("utf-8"))
        # '_' and ':' are outside the base64 alphabet, so no file's content can look like one of these.
        if text.startswith(b"ERROR_NOT_FOUND"):
            raise FileNotFoundError(
                "master %s has no uploaded file %r; upload it before the job runs" % (self.address, name)
            )
        if text.startswith((b"ERROR_", b"ERROR:", b"SERVER_ERROR")):
            raise StoreError("master %s cannot give %r: %r" % (self.address, name, text[:200]))
        try:
            return binascii.a2b_base64(text)
        except binascii.Error as exc:
            raise StoreError("master %s sent %r incomplete: %s" % (self.address, name, exc)) from None

    def keep(self, name: str, data: bytes) -> None:
        """Upload a file, replacing one of the same name."""
        text = binascii.b2a_base64(data, newline=False)
        reply = self.call(UPLOAD_ASSET, name.encode("utf-8") + b"|" + text)
        if reply != b"UPLOAD_SUCCESS":
            raise StoreError("master %s does not keep %s: %r" % (self.address, name, reply[:200]))

    def call(self, opcode: int, payload: bytes) -> bytes:
        """The payload of a request's reply. The same change after a failure is sent as the same request."""
        if opcode not in (KV_SET, KV_SADD, CANCEL):
            return self._send(opcode, payload, None)
        channel = self._channels.setdefault(_thread.get_ident(), _Channel())
        channel.begin((opcode, payload))
        reply = self._send(opcode, payload, channel)
        channel.request = None
        return reply

    def _send(self, opcode: int, payload: bytes, channel: Optional[_Channel]) -> bytes:
        if self._kept:
            try:
                # The master may have closed an idle connection.
                return self._exchange(self._kept.pop(), self._request(opcode, payload, channel))
            except OSError:
                pass
        try:
            sock = self._greeted()[0] if self._keeps else self._connect()
            reply = self._exchange(sock, self._request(opcode, payload, channel))
            if self.away:
                self.away, self.back_at = False, time.monotonic()
            return reply
        except OSError as exc:
            raise self._unreachable(exc) from None

    def _unreachable(self, exc: OSError) -> StoreError:
        self.away = True
        # The next attempt resolves the name again: the master may have moved.
        self._route = None
        return StoreError("no exchange with %s: %s" % (self.address, str(exc) or type(exc).__name__))

    def _request(self, opcode: int, payload: bytes, channel: Optional[_Channel]) -> bytes:
        if channel is None or not self._takes_ids:
            return _frame(opcode, payload)
        return _frame(ONCE, b"%s|%d\n%s" % (channel.id, opcode, payload))

    def _greeted(self) -> Tuple[Any, bytes]:
        """A connection, kept if the master allows it, and the master's answer to HELLO."""
        sock = self._connect()
        try:
            sock.settimeout(limits.REPLY_TIMEOUT)
            sock.sendall(_frame(HELLO, b""))
            reply = self._reply(sock)
            self._keeps, self._takes_ids = reply.startswith(b"{"), b'"once"' in reply
        except BaseException:
            sock.close()
            raise
        if self._keeps:
            return sock, reply
        # A job that starts its own real Titan may pass the variable on to that Titan's workers.
        sock.close()
        return self._connect(), reply

    def _exchange(self, sock: Any, request: bytes) -> bytes:
        kept = False
        try:
            sock.settimeout(limits.REPLY_TIMEOUT)
            sock.sendall(request)
            reply = self._reply(sock)
            if self._keeps:
                self._kept.append(sock)
                kept = True
            return reply
        finally:
            if not kept:
                sock.close()

    def _reply(self, sock: Any) -> bytes:
        head = _read(sock, 8)
        if head[0] != 1:
            raise StoreError("what listens at %s does not speak Titan v1" % self.address)
        return _read(sock, int.from_bytes(head[4:], "big"))

    def _connect(self) -> Any:
        routes = self._routes() if self._route is None else [self._route]
        error: Optional[OSError] = None
        for route in routes:
            family, kind, protocol, _, address = route
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(limits.CONNECT_TIMEOUT)
                sock.connect(address)
            except OSError as exc:
                sock.close()
                error = exc
            else:
                self._route = route
                return sock
        raise error or OSError("the name has no address")

    def _routes(self) -> List[Any]:
        private = os.environ.get("TITAN_SOCKET")
        if private:
            # A master with TLS or a token gives its own workers a private socket.
            return [_local(held(private))]
        # As bytes: for a str, CPython imports its IDNA codec, which takes longer than the rest of this module.
        name = self.host.encode("ascii") if self.host.isascii() else self.host
        # The next master may use another port, but opens the same socket.
        own = os.environ.get("TITAN_RUNTIME_SOCKET")
        if own:
            own = held(own)
        try:
            found: List[Any] = socket.getaddrinfo(name, self.port, 0, socket.SOCK_STREAM)
            return [_local(own)] + found if own else found
        except OSError:
            if not own:
                raise
            return [_local(own)]


_held: Dict[str, int] = {}
"""Descriptors of the master's folders."""


def held(path: str) -> str:
    """A name of `path` that still works after a folder above it is renamed; `path` itself if the system has no such name."""
    folder, name = os.path.split(path)
    try:
        if folder not in _held:
            _held[folder] = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
        found = "/proc/self/fd/%d" % _held[folder]
        return found + "/" + name if os.path.isdir(found) else path
    except OSError:
        return path


def let_go() -> None:
    """Close the descriptors of folders: this process serves another master from now on."""
    while _held:
        os.close(_held.popitem()[1])


def swap_request(key: str, expected: Optional[str], text: Optional[str]) -> str:
    """The payload of STORE_SWAP."""
    return '{"key":%s,"expected":%s,"value":%s}' % (dumps(key), dumps(expected), dumps(text))


def _local(path: str) -> Any:
    return (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path)


def _frame(opcode: int, payload: bytes) -> bytes:
    return bytes((1, opcode, 0, 0)) + len(payload).to_bytes(4, "big") + payload


def _read(sock: Any, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(size - len(data), 1 << 20))
        if not piece:
            raise OSError("connection closed after %d of %d bytes" % (len(data), size))
        data += piece
    return bytes(data)


def persist(action: Callable[[], T], until: Callable[[], float]) -> T:
    """Repeat `action` while it raises StoreError, with growing pauses, until the monotonic time `until()`.

    The limit is read again each time, because a signal may move it forward.
    """
    pause = 0.05
    while True:
        try:
            return action()
        except StoreError:
            left = until() - time.monotonic()
            if left <= 0:
                raise
        time.sleep(min(pause, left))
        pause = min(pause * 2, 2.0)
