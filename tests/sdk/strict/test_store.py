from __future__ import annotations

import pytest

from titan_sdk.strict.store import StoreLink, StoreServer


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


def test_members_that_cannot_be_read_cost_the_next_request_too(link: StoreLink) -> None:
    link.add("set", "é")
    link.put("plain", "value")
    assert link.members("set") == set()
    assert [link.get("plain"), link.get("plain")] == [None, "value"]


def test_values_and_sets_of_one_name_live_side_by_side(link: StoreLink) -> None:
    link.add("name", "a")
    assert link.get("name") is None
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
