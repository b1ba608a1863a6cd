"""Frames encoded and decoded; no socket."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.frame import Options, Row, per_second
from titan_sdk.wire.frames import FrameDecoder, encode_frame
from titan_sdk.wire.opcodes import Opcode

SECONDS = 0.5


def run(options: Options) -> Iterator[Row]:
    seconds = SECONDS / 10 if options.quick else SECONDS
    for size in (1024, 1024 * 1024):
        payload = b"k|" + b"v" * (size - 2)
        frame = encode_frame(Opcode.KV_SET, payload)

        def encode(payload: bytes = payload) -> object:
            return encode_frame(Opcode.KV_SET, payload)

        def decode(frame: bytes = frame) -> object:
            decoder = FrameDecoder()
            decoder.feed(frame)
            return decoder.next_frame()

        label = f"{size // 1024} KiB"
        yield Row("codec", f"encode a frame of {label}", 1e6 / per_second(encode, seconds), "us")
        yield Row("codec", f"decode a frame of {label}", 1e6 / per_second(decode, seconds), "us")
