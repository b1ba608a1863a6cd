"""HELLO tells the bundled master from a real one."""

from __future__ import annotations

import json

import pytest

from titan_sdk.errors import AuthenticationFailed, PeerProtocolError
from titan_sdk.model.server import ServerInfo
from titan_sdk.wire import hello


def test_both_halves_agree() -> None:
    info = hello.read_reply(hello.reply("0.1.0", ["sadd_reply", "exact_text"], "ab12"))
    assert info == ServerInfo("bundled", "0.1.0", frozenset({"exact_text", "sadd_reply"}), "ab12")
    assert info.has("exact_text")
    assert not info.has("job_info")
    assert str(info) == "bundled master 0.1.0"


@pytest.mark.parametrize("told", [{}, {"runtime": 3}])
def test_a_master_may_not_tell_its_launcher(told: dict[str, object]) -> None:
    text = json.dumps({"server": "x", "version": "1", "features": [], **told})
    assert hello.read_reply(text).runtime is None


def test_the_request_is_json() -> None:
    assert json.loads(hello.request()) == {"v": 1}


def test_a_real_master_is_known_by_its_answer() -> None:
    info = hello.read_reply("UNKNOWN_OPCODE: 64")
    assert info == ServerInfo("titan")
    assert str(info) == "Titan master"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OK",
        "{}",
        "[]",
        '{"version": "1", "features": 3}',
        "ERROR: x",
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_any_other_answer_is_a_peer_error(text: str) -> None:
    with pytest.raises(PeerProtocolError, match="server_info: the master answered HELLO with"):
        hello.read_reply(text)


@pytest.mark.parametrize(
    ("payload", "token"),
    [
        (hello.request("s3cret ü").encode(), "s3cret ü"),
        (hello.request().encode(), None),
        (b'{"token": 3}', None),
        (b"[]", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_a_token_is_read_from_a_greeting_or_there_is_none(payload: bytes, token: str | None) -> None:
    assert hello.read_token(payload) == token


def test_a_refused_greeting_is_an_authentication_failure() -> None:
    hello.check_reply(hello.reply("1", [], "ab12"))
    with pytest.raises(AuthenticationFailed, match="the master refused the connection: no token") as refused:
        hello.check_reply(hello.REFUSED + "no token")
    assert refused.value.detail == hello.REFUSED + "no token"
