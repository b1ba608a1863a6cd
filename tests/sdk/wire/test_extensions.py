"""Payloads of our extension opcodes: both halves agree, and any text is a value or PeerProtocolError."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire.extensions import (
    MAX_WAIT_SECONDS,
    AssetRead,
    AssetWrite,
    JobInfo,
    LogRead,
    StoreSwap,
    Submit,
    Wait,
    join_content,
    read_object,
    split_content,
    write_object,
)
from titan_sdk.wire.listing import MAX_LISTED, ORDERS, Changes, List

texts = st.text(st.characters())
numbers = st.integers(0, 2**63)
SEPARATE: list[Callable[[str], Any]] = [
    Wait.decode,
    JobInfo.decode,
    LogRead.decode,
    AssetRead.decode,
    StoreSwap.decode,
    List.decode,
    Changes.decode,
]


@given(
    st.builds(
        Wait,
        st.lists(texts, max_size=4).map(tuple),
        st.floats(0, MAX_WAIT_SECONDS),
        st.booleans(),
        st.dictionaries(texts, st.none() | texts, max_size=3),
    )
    | st.builds(JobInfo, texts)
    | st.builds(LogRead, texts, numbers, st.none() | texts, st.none() | numbers)
    | st.builds(AssetRead, texts, numbers, texts)
    | st.builds(StoreSwap, texts, st.none() | texts, st.none() | texts)
    | st.builds(Changes, st.none() | texts, st.floats(0, MAX_WAIT_SECONDS))
    | st.builds(
        List,
        st.sampled_from(sorted(ORDERS)),
        st.sampled_from(["newest", "oldest"]),
        st.integers(1, MAX_LISTED),
        st.none() | st.builds("{!r}:{}".format, st.floats(allow_nan=False), st.integers(0, 10**17)),
        st.booleans(),
        st.lists(texts, max_size=2).map(tuple),
        *[st.none() | texts] * 5,
        *[st.none() | st.floats(0, 1e12)] * 2,
    )
)
def test_a_request_comes_back_from_one_line_of_ascii(request_value: Any) -> None:
    text = request_value.encode()
    assert text.isascii()
    assert "\n" not in text
    assert type(request_value).decode(text) == request_value


@given(st.builds(AssetWrite, texts, texts, numbers, st.none() | texts, st.binary()))
def test_a_chunk_carries_any_bytes(chunk: AssetWrite) -> None:
    assert AssetWrite.decode(chunk.encode()) == chunk


@given(
    st.dictionaries(texts, texts, min_size=1, max_size=3), st.text(st.characters(exclude_categories=["Cs"]))
)
def test_a_submission_carries_any_text(values: dict[str, str], dag: str) -> None:
    request = Submit(next(iter(values)), values, dag)
    assert Submit.decode(request.encode()) == request


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ({"mark": "m", "values": {"n": "1"}}, "mark 'm' is not a key of values"),
        ({"mark": "m", "values": {"m": 1}}, "'values' is .* which holds other values than texts"),
        ({"values": {"m": "1"}}, "field 'mark' is None"),
    ],
)
def test_a_submission_that_nobody_could_recognize_is_refused(head: dict[str, object], sentence: str) -> None:
    with pytest.raises(PeerProtocolError, match=sentence):
        Submit.decode(join_content(write_object(**head), b"a|b"))


@given(texts | st.text(st.sampled_from('{}[]",:01e.NaInfity-idsecofp')))
def test_any_text_is_a_request_or_a_peer_error(text: str) -> None:
    for decode in SEPARATE:
        with contextlib.suppress(PeerProtocolError):
            decode(text)


@given(st.binary())
def test_any_bytes_are_a_chunk_or_a_peer_error(payload: bytes) -> None:
    for decode in (AssetWrite.decode, Submit.decode):
        with contextlib.suppress(PeerProtocolError):
            decode(payload)


@pytest.mark.parametrize(
    ("seconds", "held"),
    [(1, 1.0), (2.5, 2.5), (-1, 0.0), (1e9, MAX_WAIT_SECONDS), (10**30, MAX_WAIT_SECONDS)],
)
def test_a_wait_is_never_longer_than_a_client_s_patience(seconds: float, held: float) -> None:
    assert Wait.decode(write_object(ids=["DAG-a"], seconds=seconds)) == Wait(("DAG-a",), held)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected a JSON object, got ''"),
        ("[]", "expected a JSON object, got '[]'"),
        ("[" * 50_000, "expected a JSON object, got '[["),
        ('{"ids": ["a"], "seconds": NaN}', "expected a JSON object, got "),
        ('{"ids": ["a"], "seconds": 1' + "0" * 400 + "}", "field 'seconds' is "),
        ('{"ids": ["a"], "seconds": 1e999}', "field 'seconds' is inf, not a number"),
        ('{"ids": ["a"]}', "field 'seconds' is None, not a float"),
        (write_object(ids=["a"] * 20_001, seconds=1), "it names 20,001 jobs; the limit is 20,000"),
        ('{"ids": ["a"], "seconds": true}', "field 'seconds' is True, not a float"),
        ('{"ids": ["a"], "seconds": "1"}', "field 'seconds' is '1', not a float"),
        ('{"ids": "a", "seconds": 1}', "field 'ids' is 'a', not a list"),
        ('{"ids": [1], "seconds": 1}', "field 'ids' is [1], not a list of texts"),
    ],
)
def test_what_is_no_request_is_named(text: str, sentence: str) -> None:
    with pytest.raises(PeerProtocolError) as caught:
        Wait.decode(text)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"what": "workers"}, "there is no list of 'workers' ordered by 'newest'"),
        ({"what": "dags", "order": "ended"}, "there is no list of 'dags' ordered by 'ended'"),
        ({"what": "jobs", "cursor": "5"}, "cursor '5' was not given by a list"),
        ({"what": "jobs", "cursor": "5:name"}, "cursor '5:name' was not given"),
        ({"what": "artifacts", "cursor": "x:name"}, "cursor 'x:name' was not given"),
        ({"what": "jobs", "states": [1]}, "field 'states' is [1], not a list of texts"),
        ({"what": "jobs", "since": "now"}, "field 'since' is 'now', not a float"),
    ],
)
def test_a_list_that_cannot_be_made_is_named(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(PeerProtocolError) as caught:
        List.decode(write_object(**fields))
    assert str(caught.value).startswith(sentence)


def test_a_list_s_limit_is_bounded_and_its_cursor_read() -> None:
    assert [List.decode(write_object(what="jobs", limit=n)).limit for n in (-1, 5, 10**6)] == [
        1,
        5,
        MAX_LISTED,
    ]
    assert List.decode('{"what": "artifacts", "cursor": "1.5:a:b"}').after == (1.5, "a:b")
    assert List.decode('{"what": "jobs", "cursor": "-7:7"}').after == (-7.0, "7")
    assert List("dags").encode() == '{"what":"dags"}'
    assert Changes.decode('{"seconds": 1e9}') == Changes(None, MAX_WAIT_SECONDS)


def test_content_follows_the_first_line_feed() -> None:
    fields, content = split_content(join_content('{"size":3}', b"a\nb"))
    assert (fields, content) == ({"size": 3}, b"a\nb")
    with pytest.raises(PeerProtocolError, match="expected an object, a line feed and content"):
        split_content(b'{"size":3}')


def test_fields_keep_their_kind() -> None:
    fields = read_object(json.dumps({"n": 1, "flag": True, "text": "x", "list": ["a"], "map": {}}))
    assert (fields.want("n", int), fields.want("n", float), fields.want("flag", bool)) == (1, 1.0, True)
    assert (fields.texts("list"), fields.want("map", dict)) == (("a",), {})
    with pytest.raises(PeerProtocolError, match="field 'flag' is True, not a int"):
        fields.want("flag", int)
