"""HELLO tells the bundled master from a real one."""

from __future__ import annotations

import json

import pytest

from titan_sdk.errors import PeerProtocolError
from titan_sdk.model.stats import ServerInfo
from titan_sdk.wire import hello


def test_both_halves_agree() -> None:
    info = hello.read_reply(hello.reply("0.1.0", ["sadd_reply", "exact_text"]))
    assert info == ServerInfo("bundled", "0.1.0", frozenset({"exact_text", "sadd_reply"}))
    assert info.has("exact_text")
    assert not info.has("job_info")
    assert str(info) == "bundled master 0.1.0"


def test_the_request_is_json() -> None:
    assert json.loads(hello.request()) == {"v": 1}


def test_a_real_master_is_known_by_its_answer() -> None:
    info = hello.read_reply("UNKNOWN_OPCODE: 64")
    assert info == ServerInfo("titan")
    assert str(info) == "Titan master"


@pytest.mark.parametrize("text", ["", "OK", "{}", "[]", '{"version": "1", "features": 3}', "ERROR: x"])
def test_any_other_answer_is_a_peer_error(text: str) -> None:
    with pytest.raises(PeerProtocolError, match="server_info: the master answered HELLO with"):
        hello.read_reply(text)
