from __future__ import annotations

import pytest

from titan_sdk.cluster.strict.store import StoreConfused, StoreLink, StoreServer


@pytest.fixture
def link() -> StoreLink:
    return StoreLink(StoreServer())


def test_ascii_of_any_kind_is_exact(link: StoreLink) -> None:
    for text in ("", "NULL", "a|b;c", "line\r\nline\0", "+OK\r\n", "x" * 100_000):
        link.put("key", text)
        assert link.get("key") == text


@pytest.mark.parametrize(("text", "read"), [("héllo", "héll"), ("日本語", "日"), ("🚀", "\ufffd")])
def test_a_value_is_cut_and_its_tail_costs_the_next_request(link: StoreLink, text: str, read: str) -> None:
    link.put("plain", "value")
    link.put("key", text)
    assert link.get("key") == read
    assert link.get("plain") is None
    assert link.get("plain") == "value"


def test_a_tail_that_looks_like_a_reply_answers_the_next_request(link: StoreLink) -> None:
    link.put("other", "mine")
    link.put("key", "日本語+A\r\n")
    assert link.get("key") is not None
    assert [link.get("other") for _ in range(3)] == ["A", None, "mine"]


def test_a_number_where_a_text_belongs_is_an_unchecked_exception(link: StoreLink) -> None:
    link.put("key", "日本語:1\r\n")
    link.get("key")
    with pytest.raises(StoreConfused, match="cannot be cast"):
        link.put("key", "value")


def test_values_and_sets_of_one_name_live_side_by_side(link: StoreLink) -> None:
    link.add("name", "a")
    assert link.get("name") is None  # an error, which drops the connection
    link.put("name", "value")
    assert link.get("name") == "value"
    assert link.members("name") == {"a"}
    link.remove("name", "a")
    assert link.members("name") == set()


def test_a_restart_of_the_store_keeps_values_only() -> None:
    server = StoreServer()
    link = StoreLink(server)
    link.put("key", "value")
    link.add("set", "member")
    server.stop()
    assert (link.get("key"), link.members("set")) == (None, set())
    server.start()
    assert [link.get("key"), link.members("set")] == ["value", set()]
