"""A write is there, or an error says that it is not; a lost reply is settled by reading where reading can settle it."""

from __future__ import annotations

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, ConnectionLost, StoreUnavailable
from titan_sdk.flows import confirmed_writes
from titan_sdk.flows.store import store_sadd
from titan_sdk.session import Session
from titan_sdk.wire import calls
from titan_sdk.wire.opcodes import Opcode


class Forgetful(MasterModel):
    """Answers OK whatever becomes of a value."""

    def __init__(self, *, bundled: bool = False, keeps: str | None = "as it is", lost: bool = False) -> None:
        super().__init__(bundled=bundled)
        self.keeps, self.lost = keeps, lost

    def __call__(self, call):
        reply = super().__call__(call)
        if call.opcode is Opcode.KV_SET:
            if self.keeps is None:
                del self.kv["k"]
            elif self.keeps != "as it is":
                self.kv["k"] = self.keeps
            if self.lost:
                raise ConnectionLost("lost")
        return reply


def put(master: MasterModel) -> list[Opcode]:
    runner = FlowRunner(master)
    runner.run(confirmed_writes.write(Session(ClientConfig()), calls.kv_set("k", "é"), "k", "é"))
    return [opcode for opcode, _ in runner.calls]


def test_a_real_master_is_asked_what_it_kept():
    assert put(Forgetful()) == [Opcode.HELLO, Opcode.KV_SET, Opcode.KV_GET]


def test_the_word_of_the_bundled_master_counts():
    assert put(Forgetful(bundled=True, keeps=None)) == [Opcode.HELLO, Opcode.KV_SET]


def test_a_value_that_is_not_there_was_not_stored():
    with pytest.raises(StoreUnavailable, match=r"^store_put 'k': .* does not keep values") as told:
        put(Forgetful(keeps=None))
    assert not told.value.outcome_unknown


def test_another_value_leaves_a_doubt():
    with pytest.raises(StoreUnavailable, match=r"^store_put 'k': another value reads back") as told:
        put(Forgetful(keeps="old"))
    assert told.value.outcome_unknown


def test_a_lost_reply_is_settled_by_a_value_of_ones_own():
    runner = FlowRunner(Forgetful(lost=True))
    runner.run(confirmed_writes.put_own("k", "nonce"))
    assert [opcode for opcode, _ in runner.calls] == [Opcode.KV_SET, Opcode.KV_GET]


@pytest.mark.parametrize("keeps", [None, "another's"])
def test_a_lost_reply_stays_a_doubt_where_the_value_is_not_there(keeps):
    runner = FlowRunner(Forgetful(lost=True, keeps=keeps))
    with pytest.raises(ConnectionLost):
        runner.run(confirmed_writes.put_own("k", "nonce"))
    assert len(runner.sent(Opcode.KV_SET)) == 1


def test_a_member_that_is_not_there_was_not_added():
    answers = {Opcode.HELLO: "UNKNOWN_OPCODE: 64", Opcode.KV_SMEMBERS: "other", Opcode.KV_SADD: "0"}
    runner = FlowRunner(lambda call: answers[call.opcode])
    with pytest.raises(StoreUnavailable, match=r"^store_sadd 'k': .* does not keep"):
        runner.run(store_sadd(Session(ClientConfig()), "k", "m"))
