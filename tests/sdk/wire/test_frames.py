"""Frames: any chunking gives the same frames; any bytes give frames or PeerProtocolError."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, strategies as st

from titan_sdk.errors import PayloadTooLarge, PeerProtocolError
from titan_sdk.wire.frames import HEADER_SIZE, MAX_PAYLOAD, Frame, FrameDecoder, encode_frame

messages = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=6)


def frames_of(decoder: FrameDecoder) -> list[Frame]:
    found = []
    while (frame := decoder.next_frame()) is not None:
        found.append(frame)
    return found


def test_the_header_is_version_opcode_two_zero_bytes_and_a_big_endian_length() -> None:
    assert encode_frame(0x55, b"DAG-a") == b"\x01\x55\x00\x00\x00\x00\x00\x05DAG-a"


def test_an_empty_payload_is_a_frame_of_header_size() -> None:
    assert len(encode_frame(0x09, b"")) == HEADER_SIZE


@given(messages, st.lists(st.integers(1, 40), min_size=1))
def test_frames_survive_any_chunking(sent: list[tuple[int, bytes]], sizes: list[int]) -> None:
    stream = b"".join(encode_frame(opcode, payload) for opcode, payload in sent)
    decoder = FrameDecoder()
    received: list[Frame] = []
    position = turn = 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        decoder.feed(stream[position : position + size])
        received += frames_of(decoder)
        position, turn = position + size, turn + 1
    assert [(frame.opcode, frame.payload) for frame in received] == sent
    assert decoder.pending == 0


@given(messages)
def test_reading_exactly_what_is_wanted_never_waits_for_too_much(sent: list[tuple[int, bytes]]) -> None:
    stream = b"".join(encode_frame(opcode, payload) for opcode, payload in sent)
    decoder = FrameDecoder()
    received: list[Frame] = []
    while stream:
        size = decoder.wanted
        assert 0 < size <= len(stream)
        decoder.feed(stream[:size])
        stream = stream[size:]
        received += frames_of(decoder)
    assert [(frame.opcode, frame.payload) for frame in received] == sent


@given(st.binary(max_size=64))
def test_any_bytes_are_frames_or_a_protocol_error(data: bytes) -> None:
    decoder = FrameDecoder()
    decoder.feed(data)
    try:
        frames = frames_of(decoder)
    except PeerProtocolError:
        return
    assert sum(HEADER_SIZE + len(frame.payload) for frame in frames) + decoder.pending == len(data)


def test_flag_and_spare_bits_of_the_peer_are_ignored() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"\x01\x50\xff\x7f\x00\x00\x00\x02OK")
    assert decoder.next_frame() == Frame(0x50, b"OK")


def test_pending_counts_header_and_payload_bytes_of_an_incomplete_frame() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"\x01\x50\x00\x00\x00\x00\x00\x04OK")
    assert decoder.next_frame() is None
    assert (decoder.pending, decoder.wanted) == (HEADER_SIZE + 2, 2)


def test_the_largest_payload_is_encoded_and_decoded() -> None:
    payload = bytes(MAX_PAYLOAD)
    decoder = FrameDecoder()
    decoder.feed(encode_frame(0x53, payload))
    frame = decoder.next_frame()
    assert frame is not None
    assert len(frame.payload) == 10_485_760


def test_one_byte_over_the_limit_is_refused_before_sending() -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        encode_frame(0x53, bytes(MAX_PAYLOAD + 1))
    assert (caught.value.size, caught.value.limit) == (10_485_761, 10_485_760)
    assert str(caught.value) == (
        "opcode 0x53 needs a packet of 10,485,761 bytes, but Titan takes at most 10,485,760"
    )


def test_a_peer_announcing_one_byte_over_the_limit_is_refused_from_the_header_alone() -> None:
    decoder = FrameDecoder()
    decoder.feed(struct.pack(">BBBBi", 1, 0x53, 0, 0, MAX_PAYLOAD + 1))
    with pytest.raises(PeerProtocolError, match="announced 10,485,761 bytes; the limit is 10,485,760"):
        decoder.next_frame()


def test_replies_are_not_limited_when_the_limit_is_none() -> None:
    payload = bytes(MAX_PAYLOAD + 1)
    decoder = FrameDecoder(limit=None)
    decoder.feed(encode_frame(0x50, payload, limit=None))
    frame = decoder.next_frame()
    assert frame is not None
    assert len(frame.payload) == MAX_PAYLOAD + 1


@pytest.mark.parametrize("limit", [None, MAX_PAYLOAD])
def test_a_negative_length_is_refused(limit: int | None) -> None:
    decoder = FrameDecoder(limit=limit)
    decoder.feed(struct.pack(">BBBBi", 1, 0x50, 0, 0, -1))
    with pytest.raises(PeerProtocolError, match="payload of -1 bytes"):
        decoder.next_frame()


@pytest.mark.parametrize(
    ("first_bytes", "guess"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "an HTTP server; Titan's dashboard is HTTP"),
        (b"-ERR unknown command\r\n", "a Redis-like server; TitanStore's own port"),
        (b"+PONG\r\n+PONG\r\n", "a Redis-like server"),
        (b"\x15\x03\x01\x00\x02\x02\x46\x00", "a TLS server"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "a TLS server"),
        (b"SSH-2.0-OpenSSH_9.2", "an SSH server"),
    ],
)
def test_the_usual_wrong_ports_are_named(first_bytes: bytes, guess: str) -> None:
    decoder = FrameDecoder(limit=None)
    decoder.feed(first_bytes)
    with pytest.raises(PeerProtocolError) as caught:
        decoder.next_frame()
    assert str(caught.value).startswith("the peer does not speak Titan v1: its first bytes are b'")
    assert guess in str(caught.value)


def test_an_unknown_protocol_is_shown_without_a_guess() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"220 smtp ready")
    with pytest.raises(PeerProtocolError, match=r"its first bytes are b'220 smtp'$"):
        decoder.next_frame()


def test_malformed_utf8_becomes_a_replacement_character() -> None:
    assert Frame(0x50, b"ab\xff").text == "ab�"


def test_a_frame_is_shown_short_in_logs() -> None:
    assert str(Frame(0x50, b"OK")) == "<0x50 b'OK'>"
    assert str(Frame(0x50, b"x" * 61)).endswith("... 61 bytes>")


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.lists(st.integers(1, 60), min_size=1))
def test_take_gives_what_feed_and_next_frame_give(payloads, cuts):
    stream = b"".join(encode_frame(0x50, payload) for payload in payloads)
    decoder, found = FrameDecoder(limit=None), []
    while stream:
        size = cuts[0]
        cuts = cuts[1:] + cuts[:1]
        piece, stream = stream[:size], stream[size:]
        frame = decoder.take(piece)
        while frame is not None:
            found.append(frame.payload)
            frame = decoder.next_frame()
    assert found == payloads
    assert decoder.pending == 0


@pytest.mark.parametrize("data", [b"\x02\x50\0\0\0\0\0\0", encode_frame(0x50, b"12345")])
def test_take_is_as_strict_as_next_frame(data):
    with pytest.raises(PeerProtocolError):
        FrameDecoder(limit=4).take(data)
