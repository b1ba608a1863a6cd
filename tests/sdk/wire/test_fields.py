"""The smallest pieces of payload grammar."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st

from titan_sdk.errors import LocalProtocolError, PeerProtocolError
from titan_sdk.wire.fields import decode_base64, encode_base64, join_pair, split_pair


@given(st.text().filter(lambda text: "|" not in text), st.text())
def test_a_pair_comes_back_whatever_the_second_part_holds(first: str, second: str) -> None:
    assert split_pair(join_pair(first, second)) == (first, second)


def test_a_pipe_in_the_first_part_is_refused() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        join_pair("a|b", "c")
    assert str(caught.value) == "'a|b' contains '|', at which Titan would cut it"


def test_a_payload_without_a_pipe_is_no_pair() -> None:
    assert split_pair("key") is None
    assert split_pair("|") == ("", "")


@given(st.binary())
def test_base64_round_trips_with_and_without_padding(data: bytes) -> None:
    text = encode_base64(data)
    assert decode_base64(text) == data
    assert decode_base64(text.rstrip("=")) == data


@pytest.mark.parametrize("text", ["a", "ab\ncd", "a-_b", "é", "ab==cd==", "====", "NOT_FOUND"])
def test_what_is_not_base64_is_a_peer_error(text: str) -> None:
    with pytest.raises(PeerProtocolError, match="expected base64, got"):
        decode_base64(text)


@given(st.text())
def test_any_text_is_bytes_or_a_peer_error(text: str) -> None:
    with contextlib.suppress(PeerProtocolError):
        assert isinstance(decode_base64(text), bytes)
