"""Checkpoints by their keys, on a real master and on a bundled one."""

from __future__ import annotations

import json

import pytest

from tests.sdk.flows.test_archives import Bundled, Real
from tests.support.flow_runner import FlowRunner
from titan_sdk import ClientConfig, CorruptData, FileRef
from titan_sdk.flows.checkpoints import get_checkpoint, list_checkpoints, remove_checkpoint
from titan_sdk.runtime import keys
from titan_sdk.session import Session
from titan_sdk.wire.opcodes import Opcode

REF = FileRef("checkpoint~a", 3, "0" * 64, "m")
OLD = {"name": "checkpoint~b", "parts": ["", ""]}
STORED = {
    "v": 1,
    "ref": REF.to_json(),
    "step": 8,
    "saved_at": 1.5,
    "job": "DAG-a",
    "state": {"x": 1},
    "stale": [OLD],
}


class Forgetting(Bundled):
    def __init__(self):
        super().__init__()
        self.features += ["store_ops", "asset_delete"]

    def __call__(self, call):
        match call.opcode:
            case Opcode.STORE_DELETE:
                return json.dumps({"deleted": self.kv.pop(json.loads(call.payload)["key"], None) is not None})
            case Opcode.STORE_KEYS:
                asked = json.loads(call.payload)
                found = sorted(key for key in self.kv if key.startswith(asked["prefix"]))
                return json.dumps({"keys": found, "more": False})
            case Opcode.ASSET_DELETE:
                gone = self.assets.pop(json.loads(call.payload)["name"], None)
                return json.dumps({"deleted": gone is not None})
        return super().__call__(call)


def kept(master, key="ä/1", **fields):
    master.kv[keys.checkpoint_key(key)] = json.dumps(STORED | fields)
    for name in (REF.name, "checkpoint~b.1of2", "checkpoint~b.2of2"):
        master.put(name, b"old")


@pytest.mark.parametrize("kind", [Real, Forgetting])
def test_a_checkpoint_is_removed_with_all_its_files(kind):
    master = kind()
    kept(master)
    found = FlowRunner(master).run(get_checkpoint("ä/1"))
    assert (found.key, found.file, found.step, found.saved_at, found.job_id) == ("ä/1", REF, 8, 1.5, "DAG-a")
    assert (found.state, found.is_over, len(found.left)) == ({"x": 1}, False, 1)
    assert FlowRunner(master).run(remove_checkpoint(Session(ClientConfig()), "ä/1")) is True
    assert FlowRunner(master).run(get_checkpoint("ä/1")) is None
    assert FlowRunner(master).run(remove_checkpoint(Session(ClientConfig()), "ä/1")) is False
    assert set(master.assets.values()) <= {""}


def test_what_a_job_that_succeeded_could_not_remove_is_removed_too():
    master = Forgetting()
    kept(master, done="DAG-a:f", ref=None)
    assert FlowRunner(master).run(remove_checkpoint(Session(ClientConfig()), "ä/1")) is False
    assert (master.kv, master.assets) == ({}, {REF.name: master.assets.get(REF.name)})


def test_keys_are_listed_as_they_were_given():
    master = Forgetting()
    for key in ("ä/1", "b|2"):
        kept(master, key)
    listed = FlowRunner(master).run(list_checkpoints(Session(ClientConfig()), ""))
    assert [found.key for found in listed] == ["b|2", "ä/1"]
    listed = FlowRunner(master).run(list_checkpoints(Session(ClientConfig()), "ä"))
    assert [found.key for found in listed] == ["ä/1"]
    assert len(keys.checkpoint_key("x" * 1000)) < 330
    assert keys.checkpoint_key("x" * 1000) != keys.checkpoint_key("x" * 1001)


def test_one_that_goes_while_they_are_listed_is_left_out():
    class Losing(Forgetting):
        def __call__(self, call):
            return "NULL" if call.opcode is Opcode.KV_GET else super().__call__(call)

    master = Losing()
    kept(master)
    assert FlowRunner(master).run(list_checkpoints(Session(ClientConfig()), "")) == []


@pytest.mark.parametrize("text", ["[]", "no json", '{"v": 2}', '{"v": 1, "ref": {"name": "x"}}'])
def test_what_is_no_checkpoint(text):
    master = Real()
    master.kv[keys.checkpoint_key("k")] = text
    with pytest.raises(CorruptData, match=r"TitanStore holds .* as checkpoint 'k'"):
        FlowRunner(master).run(get_checkpoint("k"))
