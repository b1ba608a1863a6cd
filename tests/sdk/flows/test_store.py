"""TitanStore on a master that can do more than Titan v1, and on one that cannot."""

from __future__ import annotations

import json

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, InvalidArgument, NotSupported, PayloadTooLarge
from titan_sdk.flows import large_values, store
from titan_sdk.session import Session
from titan_sdk.wire.opcodes import Opcode

LARGE = "a" * 11_000_000


class Bundled(MasterModel):
    """A store that can delete, list, expire and swap; its listing comes in pages of two."""

    def __call__(self, call):
        if call.opcode is Opcode.HELLO:
            return '{"server":"x","version":"1","features":["store_ops","sadd_reply"]}'
        if call.opcode is Opcode.KV_SADD:
            return "1"
        if call.opcode is Opcode.KV_SMEMBERS:
            return "b,a"
        if call.opcode.name.startswith("STORE_"):
            return json.dumps(self.extended(call.opcode, json.loads(call.payload)))
        return super().__call__(call)

    def extended(self, opcode, asked):
        if opcode is Opcode.STORE_DELETE:
            return {"deleted": self.kv.pop(asked["key"], None) is not None}
        if opcode is Opcode.STORE_EXPIRE:
            return {"set": asked["key"] in self.kv}
        if opcode is Opcode.STORE_KEYS:
            after = [k for k in sorted(self.kv) if k.startswith(asked["prefix"]) and k > asked["after"]]
            return {"keys": after[:2], "more": len(after) > 2}
        swapped = self.kv.get(asked["key"]) == asked["expected"]
        if swapped:
            self.kv[asked["key"]] = asked["value"]
        return {"swapped": swapped}


@pytest.fixture
def session():
    return Session(ClientConfig())


@pytest.fixture
def runner():
    made = FlowRunner(Bundled())
    made.kv = made._answer.kv
    return made


def test_a_value_comes_back(session, runner):
    runner.run(store.store_put(session, "k", "é|1"))
    assert runner.run(store.store_get("k")) == "é|1"
    assert runner.run(store.store_get("other")) is None


def test_a_value_in_parts_comes_back_and_is_deleted_with_them(session, runner):
    runner.run(store.store_put(session, "k", LARGE))
    assert len(runner.kv) == 3
    assert runner.run(store.store_get("k")) == LARGE
    assert runner.run(store.store_delete(session, "k")) is True
    assert runner.kv == {}
    assert runner.run(store.store_delete(session, "k")) is False


def test_the_parts_of_a_replaced_value_are_deleted(session, runner):
    for text in (LARGE, LARGE + "b"):
        runner.run(store.store_put(session, "k", text))
    assert len(runner.kv) == 3


def test_a_value_over_every_limit_is_refused_unsent(session, runner, monkeypatch):
    monkeypatch.setattr(large_values, "MAX_VALUE", 10_999_999)
    with pytest.raises(PayloadTooLarge, match="put the bytes into a file with upload_file"):
        runner.run(store.store_put(session, "k", LARGE))
    assert runner.calls == []


def test_keys_are_listed_over_as_many_pages_as_it_takes(session, runner):
    assert runner.run(store.store_keys(session, "x")) == []
    runner.kv.update(dict.fromkeys(["x1", "x2", "x3", "x4", "x5", "y"], "v"))
    assert runner.run(store.store_keys(session, "x")) == ["x1", "x2", "x3", "x4", "x5"]
    assert len(runner.sent(Opcode.STORE_KEYS)) == 4


def test_a_key_expires_and_is_swapped(session, runner):
    assert runner.run(store.store_expire(session, "k", 5)) is False
    assert runner.run(store.store_swap(session, "k", None, "1")) is True
    assert runner.run(store.store_swap(session, "k", "2", "3")) is False
    assert runner.run(store.store_expire(session, "k", 5)) is True


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "5"])
def test_a_time_to_live_that_is_none_is_not_sent(session, runner, seconds):
    with pytest.raises(
        InvalidArgument, match=r"seconds .* is not a number above 0; store_delete deletes at once"
    ):
        runner.run(store.store_expire(session, "k", seconds))
    assert not runner.calls


def test_sets_are_sorted_and_sadd_tells(session, runner):
    assert runner.run(store.store_smembers("s")) == ["a", "b"]
    assert runner.run(store.store_sadd(session, "s", "a")) == 1


@pytest.mark.parametrize(
    ("flow", "instead"),
    [
        (lambda s: store.store_delete(s, "k"), "overwrite the value with an empty text"),
        (lambda s: store.store_keys(s), "keep the names in a set of your own"),
        (lambda s: store.store_expire(s, "k", 1), "overwrite the value when it is not needed"),
        (lambda s: store.store_swap(s, "k", None, "v"), "let one client alone write the key"),
    ],
)
def test_what_a_real_master_cannot_do_says_what_to_do_instead(session, flow, instead):
    with pytest.raises(NotSupported, match=instead):
        FlowRunner(MasterModel()).run(flow(session))


@pytest.mark.parametrize(
    "flow",
    [
        lambda s: store.store_put(s, 7, "v"),
        lambda s: store.store_put(s, "k", 7),
        lambda s: store.store_get(7),
        lambda s: store.store_sadd(s, "k", 7),
        lambda s: store.store_swap(s, "k", "v", 7),
    ],
)
def test_what_is_no_text_is_refused_before_anything_is_asked(session, runner, flow):
    with pytest.raises(InvalidArgument, match="7 is a int, not a text"):
        runner.run(flow(session))
    assert runner.calls == []
