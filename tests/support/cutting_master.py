"""A master that breaks one exchange at a chosen byte, after doing the work or without, and serves all others well."""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType

from tests.support.flow_runner import MasterModel
from titan_sdk.wire.calls import Call
from titan_sdk.wire.frames import Frame, FrameDecoder, encode_frame
from titan_sdk.wire.opcodes import Opcode, reply_opcode


class CuttingMaster:
    """Counts how often each DAG was really taken.

    Args:
        keep_alive: announce it, as the bundled master does, so that the submit travels on a kept connection.
    """

    def __init__(self, *, keep_alive: bool = False) -> None:
        self.model = MasterModel()
        self.keep_alive = keep_alive
        self.cut_request: int | None = None
        """Close after so many bytes of the submit's frame; it is not processed then."""
        self.cut_reply: int | None = None
        """Close after so many bytes of the reply to a submit that arrived whole."""
        self.process = True
        """Whether a submit that arrived whole is carried out before the connection breaks."""
        self.reset = False
        """Break with a reset rather than an end of the stream."""
        self.taken = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._open: set[socket.socket] = set()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> CuttingMaster:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for open_socket in (self._listener, *self._open):
            try:
                open_socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._listener.close()
        self._thread.join(timeout=60)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            self._open.add(connection)
            try:
                self._talk(connection, FrameDecoder())
            except OSError:
                pass
            finally:
                self._open.discard(connection)

    def _talk(self, connection: socket.socket, decoder: FrameDecoder) -> None:
        while True:
            frame = self._read(connection, decoder)
            if frame is None:
                return
            if frame.opcode == Opcode.SUBMIT_DAG:
                self._submit(connection, frame)
                return
            text = self._answer(frame)
            connection.sendall(encode_frame(reply_opcode(text), text.encode()))
            if not self.keep_alive:
                return

    def _read(self, connection: socket.socket, decoder: FrameDecoder) -> Frame | None:
        """The next frame; ``None`` when the connection has ended or was broken."""
        cut = self.cut_request
        if cut is not None:
            # Looked at and not taken, so that a cut before the opcode finds the right exchange too.
            while len(head := connection.recv(2, socket.MSG_PEEK)) == 1:
                pass
            cut = cut if head[1:] == bytes([Opcode.SUBMIT_DAG]) else None
        arrived = 0
        while (frame := decoder.next_frame()) is None:
            if arrived == cut:
                self._break(connection)
                return None
            data = connection.recv(65536 if self.cut_request is None else 1)
            if not data:
                return None
            arrived += len(data)
            decoder.feed(data)
        return frame

    def _submit(self, connection: socket.socket, frame: Frame) -> None:
        if self.process:
            with self._lock:
                self.taken += 1
                self.model.accept(frame.text)
        reply = encode_frame(Opcode.ACK, b"DAG_ACCEPTED")
        connection.sendall(reply[: self.cut_reply])
        if self.cut_reply is not None:
            self._break(connection)

    def _break(self, connection: socket.socket) -> None:
        if self.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def _answer(self, frame: Frame) -> str:
        if frame.opcode == Opcode.HELLO and self.keep_alive:
            return '{"server":"x","version":"1","features":["keep_alive"]}'
        with self._lock:
            return self.model(Call("", Opcode(frame.opcode), frame.text, lambda found: found))
