"""A master derives the reply's opcode from its text (protocol section 1.1)."""

from __future__ import annotations

import pytest

from titan_sdk.wire.opcodes import Opcode, reply_opcode


@pytest.mark.parametrize(
    "text",
    [
        "ERROR",
        "ERROR: Invalid Format",
        "ERROR_NOT_FOUND",
        "ERRORabc=",
        "UNKNOWN_OPCODE: -16",
        "SERVER_ERROR: x",
        "UPLOAD_FAILED: x",
        "DEPLOY_FAILED: x",
    ],
)
def test_texts_that_begin_with_a_failure_word_are_errors(text: str) -> None:
    assert reply_opcode(text) is Opcode.ERROR


@pytest.mark.parametrize(
    "text", ["", "OK", "NULL", "NOT_FOUND", "COMMUNICATION_ERROR: x", " ERROR", "error: x"]
)
def test_every_other_text_is_an_acknowledgement(text: str) -> None:
    assert reply_opcode(text) is Opcode.ACK
