"""Small requests that are answered where they arrive: in the same turn of the loop, or when their commit is durable.

They are what clients send most. A task for each would cost three more turns of the loop than the work itself.
"""

from __future__ import annotations

from collections.abc import Callable

from titan_sdk.cluster import bulk
from titan_sdk.cluster.admission import Refused, check_dag
from titan_sdk.cluster.master import Master
from titan_sdk.cluster.store.base import StoreFailed, Unstorable
from titan_sdk.cluster.store.changes import OUT_OF_DATE, AddMember, Change, Once, Put
from titan_sdk.cluster.value_requests import change_of, reply_to
from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire import once
from titan_sdk.wire.fields import split_pair
from titan_sdk.wire.opcodes import STORE_FAILED, Opcode

__all__ = ["LARGE_REPLY", "Quick", "Reply", "not_stored"]

Reply = Callable[[str], None]
"""Takes the reply's text, once, now or later."""

LARGE_REPLY = 16 * 1024
"""Bytes. A longer value is left, unread, to a task."""
_BAD_PAIR = "ERROR: Invalid Format"


def not_stored(exc: StoreFailed) -> str:
    """The reply to a request that the store did not carry out."""
    if isinstance(exc, Unstorable):
        return f"ERROR: what cannot be written in UTF-8 is no text: {exc}"
    return f"{STORE_FAILED}{exc}"


class Quick:
    """Begins a request, and says whether it did; one that it did not begin wants a task."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._state = master.state
        self._journal = master.state.store.journal
        self._by_opcode: dict[int, Callable[[str, Reply], bool]] = {
            Opcode.GET_JOB_STATUS: self._status,
            Opcode.KV_SET: self._set,
            Opcode.KV_GET: self._get,
            Opcode.KV_SADD: self._add,
            Opcode.ONCE: self._once,
            Opcode.SUBMIT_DAG: self._submit,
        }

    def __contains__(self, opcode: int) -> bool:
        return opcode in self._by_opcode

    def begin(self, opcode: int, payload: str, reply: Reply) -> bool:
        """False: nothing was done, and ``reply`` will not be called."""
        try:
            return self._by_opcode[opcode](payload, reply)
        except Refused as exc:
            reply(f"ERROR: {exc}")
        except StoreFailed as exc:
            reply(not_stored(exc))
        return True

    def _status(self, payload: str, reply: Reply) -> bool:
        job_id = payload.strip()
        if self._master.arrival(job_id) is not None:
            return False  # nothing is known of it before its submission is stored, or refused
        reply(self._state.lookup(job_id) or "NULL")
        return True

    def _get(self, payload: str, reply: Reply) -> bool:
        value_at_hand = self._state.store.value_at_hand
        if value_at_hand is None:
            return False
        value = value_at_hand(payload, LARGE_REPLY)
        if value is False:
            return False  # sent at its reader's pace, which takes a task
        reply("NULL" if value is None else value)
        return True

    def _set(self, payload: str, reply: Reply) -> bool:
        pair = split_pair(payload)
        if pair is None:
            reply(_BAD_PAIR)
        else:
            self._write(Put(*pair), lambda _: reply("OK"), reply)
        return True

    def _add(self, payload: str, reply: Reply) -> bool:
        pair = split_pair(payload)
        if pair is None:
            reply(_BAD_PAIR)
        else:
            self._write(AddMember(*pair), lambda new: reply("1" if new else "0"), reply)
        return True

    def _once(self, payload: str, reply: Reply) -> bool:
        try:
            request, frame = once.decode(payload.encode())
            change = change_of(frame.opcode, frame.payload)
        except PeerProtocolError as exc:
            reply(f"ERROR: {exc}")
            return True
        if change is None:
            return False

        def done(result: object) -> None:
            reply(once.OUT_OF_DATE if result == OUT_OF_DATE else reply_to(frame.opcode, result))

        self._write(Once(request, change), done, reply)
        return True

    def _write(self, change: Change, done: Callable[[object], None], reply: Reply) -> None:
        self._journal.write_with(change, done, lambda exc: reply(not_stored(exc)))
        self._journal.commit()

    def _submit(self, payload: str, reply: Reply) -> bool:
        if bulk.is_large(payload):
            return False
        lines = check_dag(payload, self._state.known)
        self._master.enqueue(lines, lambda: reply("DAG_ACCEPTED"), lambda exc: reply(f"ERROR: {exc}"))
        return True
