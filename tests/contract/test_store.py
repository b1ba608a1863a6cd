"""TitanStore: any text comes back exactly, whatever the master's own store would do to it."""

from __future__ import annotations

import time

import pytest

from titan_sdk import InvalidArgument, NotSupported, PayloadTooLarge

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
    assert api.store_put(key, text) == "OK"
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


def test_a_value_over_the_packet_limit_travels_in_parts(api, unique):
    key = unique("big")
    first, second = "x" * 11_000_000, "é|" * 3_000_000
    api.store_put(key, first)
    assert api.store_get(key) == first
    api.store_put(key, second)
    assert api.store_get(key) == second
    api.store_put(key, "small again")
    assert api.store_get(key) == "small again"


@pytest.mark.needs("store_ops")
def test_a_large_value_leaves_no_parts_behind(api, unique):
    key = unique("parts")
    for letter in "ab":
        api.store_put(key, letter * 11_000_000)
    assert len(api.store_keys(key)) == 3  # the reference and two parts
    assert api.store_delete(key) is True
    assert api.store_keys(key) == []
    assert api.store_delete(key) is False


@pytest.mark.needs("store_ops")
def test_keys_are_listed_as_they_were_written(api, unique):
    prefix = unique("list")
    names = [f"{prefix}:a", f"{prefix}:b|pipe", f"{prefix}:é", f"{prefix}:set"]
    for name in names[:3]:
        api.store_put(name, "x")
    api.store_sadd(names[3], "member")
    assert api.store_keys(prefix) == sorted(names)


@pytest.mark.needs("store_ops")
def test_a_long_list_of_keys_comes_whole(api, unique):
    prefix = unique("many")
    names = [f"{prefix}:{index:04}" for index in range(1500)]
    for name in names:
        api.store_put(name, "")
    assert api.store_keys(prefix) == names


@pytest.mark.needs("store_ops")
def test_compare_and_set(api, unique):
    key = unique("swap")
    assert api.store_swap(key, None, "é1") is True
    assert api.store_swap(key, None, "2") is False
    assert api.store_swap(key, "é1", "2") is True
    assert api.store_get(key) == "2"
    assert api.store_swap(key, "2", None) is True
    assert api.store_get(key) is None


@pytest.mark.needs("store_ops")
def test_a_key_expires_unless_it_is_written_again(api, unique):
    gone, kept = unique("gone"), unique("kept")
    for key in (gone, kept):
        api.store_put(key, "x")
        assert api.store_expire(key, 0.2) is True
    api.store_put(kept, "y")
    deadline = time.monotonic() + 240
    while api.store_get(gone) is not None:
        assert time.monotonic() < deadline
    assert api.store_get(kept) == "y"
    assert gone not in api.store_keys(gone)
    assert api.store_expire(unique("never"), 1) is False


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "60"])
def test_a_time_to_live_that_is_none_is_refused_before_sending(api, unique, seconds):
    with pytest.raises(InvalidArgument, match=r"store_expire: seconds .* is not a number above 0"):
        api.store_expire(unique("key"), seconds)


def test_what_a_real_master_lacks_is_said(api, capabilities):
    if "store_ops" in capabilities:
        pytest.skip("the master announces store_ops")
    with pytest.raises(NotSupported, match="overwrite the value with an empty text instead"):
        api.store_delete("key")
    with pytest.raises(NotSupported, match="keep the names in a set of your own"):
        api.store_keys()


def test_a_value_over_every_limit_is_refused_with_both_sizes(api, monkeypatch):
    # The real limit is half a GiB.
    monkeypatch.setattr("titan_sdk.flows.large_values.MAX_VALUE", 11_000_000)
    with pytest.raises(
        PayloadTooLarge, match=r"needs a packet of 12,000,000 bytes, but Titan takes at most 11,000,000"
    ):
        api.store_put("big", "x" * 12_000_000)
