"""Opcode -> answer, for the extension opcodes. A reply is text, or bytes where it carries file content."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from titan_sdk.cluster.extensions.content import Content
from titan_sdk.cluster.extensions.jobs import JobQuestions
from titan_sdk.cluster.extensions.values import Values
from titan_sdk.cluster.master import Master
from titan_sdk.cluster.once import Answer, OnceOnly
from titan_sdk.cluster.quick import not_stored
from titan_sdk.cluster.store.base import StoreFailed
from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire.opcodes import Opcode

__all__ = ["FEATURES", "Extensions"]

FEATURES = ("chunked_artifacts", "job_info", "log_read", "once", "store_ops", "wait")

Handler = Callable[[bytes], Awaitable[str | bytes]]


class Extensions:
    """What this master offers beyond Titan v1."""

    def __init__(self, master: Master, answer: Answer) -> None:
        """``answer`` takes the request inside one that is carried out once."""
        questions, values = JobQuestions(master), Values(master.state.store)
        content = Content(master.uploads, master.data.root / "incoming")
        self._by_opcode: dict[int, Handler] = {
            Opcode.WAIT: questions.wait,
            Opcode.JOB_INFO: questions.info,
            Opcode.LOG_READ: questions.read_log,
            Opcode.ASSET_WRITE: content.write,
            Opcode.ASSET_READ: content.read,
            Opcode.STORE_DELETE: partial(values.change, Opcode.STORE_DELETE),
            Opcode.STORE_KEYS: values.keys,
            Opcode.STORE_SWAP: partial(values.change, Opcode.STORE_SWAP),
            Opcode.STORE_EXPIRE: partial(values.change, Opcode.STORE_EXPIRE),
            Opcode.ONCE: OnceOnly(master.state.store.journal, answer).answer,
        }

    def __contains__(self, opcode: int) -> bool:
        return opcode in self._by_opcode

    async def answer(self, opcode: int, payload: bytes) -> str | bytes:
        """The reply; a malformed request is answered with what is wrong with it."""
        try:
            return await self._by_opcode[opcode](payload)
        except PeerProtocolError as exc:
            return f"ERROR: {Opcode(opcode).name}: {exc}"
        except StoreFailed as exc:
            return not_stored(exc)
