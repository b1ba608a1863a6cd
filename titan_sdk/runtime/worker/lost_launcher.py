"""Hands in the final record of a job whose launcher was killed, once no process of the job is left. Its guard does that, or
the worker process that forked a launcher without a separate guard.

The record then shows that the job has ended, and its log has the last output.
"""

from __future__ import annotations

import os
import time

from . import jobdir, keys, limits, store
from .c_modules import dumps
from .chunks import Chunker
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict


def hand_in_for(spec: Dict[str, Any], launcher: int) -> None:
    """Hand in the final record, from the job's spec and the launcher's process number alone."""
    import json

    jobdir.remove_left(spec["nonce"])
    master = store.StoreConnection(spec["master"][0], spec["master"][1])
    try:
        master.meet()
        text = master.get(keys.state_key(spec["id"], spec["nonce"]))
    except store.StoreError:
        return
    fields = {} if text is None else json.loads(text)
    if fields.get("pid") == launcher:
        known = {"id": spec["id"], "nonce": spec["nonce"], "max_attempts": 1}
        record = Record(dict(known, cancel_grace=fields["cancel_grace"]), fields["attempt"], 0)
        record.token = fields["token"]
        hand_in(master, record, b"")


def hand_in(master: store.StoreConnection, record: Record, output: bytes) -> None:
    """Write the last output and the final record, unless another copy has taken over or the store is unreachable."""
    master.forget_connections()
    if record.logs_to_master:
        try:
            os.write(1, output)
        except OSError:
            pass  # the disk is full; the record matters more
    until = time.monotonic() + limits.LAST_WORDS
    try:
        store.persist(lambda: _hand_in(master, record, output), lambda: until)
    except (store.StoreError, store.Contended):
        # The record stays unfinished, as if the guard had been killed too.
        pass


def _hand_in(master: store.StoreConnection, record: Record, output: bytes) -> None:
    import json

    text = master.get(record.key)
    if text is None or not record.is_ours(text):
        return
    record.fields = json.loads(text)
    if record.fields["state"] != "running":
        return
    end = {
        "state": "failed",
        "signal": "SIGKILL",
        "reason": "stopped: its launcher was ended by SIGKILL, as a worker does that cancels a job",
        "ended_at": round(time.time(), 3),
        "processes": None,
    }
    if record.logs_to_master:
        record.stored = text
        record.update(**end)
        record.save(master)
        return
    index = record.fields["log_chunks"]
    while master.get(record.log_key(index)) is not None:
        index += 1
    words = Chunker().next(output, True)
    if words:
        chunk = dumps({"v": 1, "attempt": record.attempt, "text": words})
        master.confirm(record.log_key(index), chunk)
        index += 1
    record.update(log_chunks=index, **end)
    master.confirm(record.key, record.text())
