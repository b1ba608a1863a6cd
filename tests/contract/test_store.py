"""TitanStore: any text comes back exactly, whatever the master's own store would do to it."""

from __future__ import annotations

import pytest

from titan_sdk import InvalidArgument, PayloadTooLarge

TEXTS = [
    "98.5",
    "",
    "NULL",
    "ERROR: not an error",
    "UNKNOWN",
    "SERVER_ERROR: neither",
    "a|b;c[d],e",
    "line one\nline two\r\n\ttab",
    "  edges  ",
    "héllo 日本語 🚀",
    "+OK\r\n$-1\r\n",
    "~t1~looks escaped",
    '{"json": [1, 2.5, null], "q": "\\""}',
    "\ud800 lone surrogate",
    "x" * 100_000,
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:20]))
def test_any_text_round_trips(api, unique, text):
    key = unique("text")
    assert api.store_put(key, text) is None
    assert api.store_get(key) == text


@pytest.mark.parametrize("name", ["plain", "with space", "pipe|in", "clé", "semi;colon", "a:b:c"])
def test_any_key_names_its_own_value(api, unique, name):
    key, other = unique(name), unique(name)
    api.store_put(key, "one")
    api.store_put(other, "two")
    assert (api.store_get(key), api.store_get(other)) == ("one", "two")


def test_an_absent_key_reads_none(api, unique):
    assert api.store_get(unique("absent")) is None


def test_the_last_writer_wins(api, unique):
    key = unique("overwrite")
    api.store_put(key, "first")
    api.store_put(key, "second")
    assert api.store_get(key) == "second"


def test_sadd_tells_new_from_existing(api, unique):
    key = unique("set")
    assert [api.store_sadd(key, member) for member in ("a", "b", "a")] == [1, 1, 0]
    assert api.store_smembers(key) == ["a", "b"]


def test_any_member_round_trips(api, unique):
    key = unique("members")
    members = ["batch_A.csv", "b,c", "", "ünïcode", "ERROR", "NULL", "pipe|semi;", "new\nline"]
    for member in members:
        assert api.store_sadd(key, member) == 1
    assert api.store_smembers(key) == sorted(members)


def test_an_absent_set_is_empty(api, unique):
    assert api.store_smembers(unique("no-set")) == []


def test_what_is_no_text_is_refused_before_sending(api):
    with pytest.raises(
        InvalidArgument, match=r"the value 98\.5 is a float, not a text; convert it with str\(\)"
    ):
        api.store_put("accuracy", 98.5)


def test_a_value_over_the_packet_limit_is_refused_with_both_sizes(api):
    with pytest.raises(
        PayloadTooLarge, match=r"needs a packet of 10,485,764 bytes, but Titan takes at most 10,485,760"
    ):
        api.store_put("big", "x" * 10_485_760)
