"""Any text survives TitanStore: ASCII on the wire, one form per text, members without commas."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, strategies as st

from titan_sdk.errors import CorruptData
from titan_sdk.wire.fields import (
    MARK,
    decode_member,
    decode_value,
    encode_key,
    encode_member,
    encode_value,
    split_members,
)
from titan_sdk.wire.opcodes import Opcode, reply_opcode

HAZARDS = [
    "",
    "NULL",
    "ERROR",
    "ERROR: x",
    "UNKNOWN",
    "héllo",
    "日本語",
    "a|b",
    "a,b",
    "a\nb",
    " a ",
    "\0",
    MARK,
]
any_text = (
    st.text(st.characters()) | st.sampled_from(HAZARDS) | st.sampled_from(HAZARDS).map(lambda t: MARK + t)
)


@given(any_text)
@example("\ud800")
@example("\\|")
@example("\\,")
def test_every_text_round_trips_as_value_and_as_member(text: str) -> None:
    assert decode_value(encode_value(text)) == text
    assert decode_member(encode_member(text)) == text


@given(any_text)
@example("\ud800|,")
def test_what_is_stored_is_free_of_the_store_s_hazards(text: str) -> None:
    value, key, member = encode_value(text), encode_key(text), encode_member(text)
    assert (value + key + member).isascii()
    assert value != "NULL"
    assert reply_opcode(value) is Opcode.ACK
    assert "|" not in key
    assert key == key.strip()
    assert member
    assert "," not in member
    assert member != "NULL"


@given(any_text, any_text)
def test_different_texts_have_different_stored_forms(one: str, other: str) -> None:
    for encode in (encode_value, encode_key, encode_member):
        assert (encode(one) == encode(other)) == (one == other)


@given(st.sets(any_text, max_size=5))
def test_the_members_of_a_set_come_back_whatever_they_hold(members: set[str]) -> None:
    reply = ",".join(encode_member(member) for member in members)
    found = split_members(reply)
    assert set(found) == members
    assert len(found) == len(members)


@pytest.mark.parametrize(
    "text", ["98.5", "batch_A.csv", "a|b", "a\nb", " edge ", "", '{"v": 1}', "error: low"]
)
def test_harmless_values_are_stored_as_they_are_so_other_clients_read_them(text: str) -> None:
    assert encode_value(text) == text


def test_a_foreign_set_reads_as_its_plain_members() -> None:
    assert split_members("a,b") == ["a", "b"]
    assert split_members("") == []


@pytest.mark.parametrize("key", ["", "task_123_accuracy", "titan:job:DAG-a", "a b", "a\nb"])
def test_harmless_keys_are_stored_as_they_are(key: str) -> None:
    assert encode_key(key) == key


@given(any_text.filter(lambda text: encode_key(text) != text))
def test_an_escaped_key_is_json_behind_the_mark(key: str) -> None:
    assert json.loads(encode_key(key).removeprefix(MARK)) == key


def test_a_broken_escape_is_corrupt_data() -> None:
    with pytest.raises(CorruptData, match="begins like an escape of this SDK but is none"):
        decode_value(MARK + '"abc')
    with pytest.raises(CorruptData, match="whose escape does not hold a text"):
        decode_value(MARK + "[1]")
