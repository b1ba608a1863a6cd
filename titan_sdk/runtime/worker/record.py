"""The state record: the value in the store with the job's state."""

from __future__ import annotations

import binascii
import os
import time

from . import keys, processes, store
from .c_modules import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional


class Record:
    """The state of this attempt. One thread at a time changes it; it is written as a whole."""

    def __init__(self, spec: Dict[str, Any], attempt: int, first_chunk: int) -> None:
        self.full_id, self.nonce = spec["id"], spec["nonce"]
        self.key = keys.state_key(self.full_id, self.nonce)
        self.token = binascii.hexlify(os.urandom(8)).decode()
        self.attempt = attempt
        host = os.uname().nodename
        self.fields: Dict[str, Any] = {
            "v": 1,
            "state": "claimed",
            "attempt": attempt,
            "token": self.token,
            "worker": os.environ.get("TITAN_WORKER") or host,
            "host": host,
            "pid": os.getpid(),
            "started_at": None,
            "ended_at": None,
            "heartbeat_at": 0.0,
            "exit_code": None,
            "signal": None,
            "exception": None,
            "reason": None,
            "cancelled": False,
            "last": attempt >= spec["max_attempts"],
            "progress": None,
            # Chunks of earlier attempts are kept, so the numbers continue after them.
            "log_chunks": first_chunk,
            # "master": there are no chunks, because the master keeps the log.
            "log": None,
            # How long it may be silent while it is being stopped.
            "cancel_grace": spec["cancel_grace"],
            "result": None,
            # How the environment was provided, and how long that took.
            "environment": None,
            # Lets another launcher on this machine know at once that this one is gone.
            "processes": processes.identity(os.getpid()),
        }

        folder, run = os.environ.get("TITAN_RUNTIME_ENDS"), os.environ.get("TITAN_RUN")
        self.file = store.held(folder) + "/" + run if folder and run else None
        """The file in which the worker's master finds the final record."""
        self.stored: Optional[str] = None
        """The last version that a trusted master has, or the earlier record that this one replaces."""
        self.in_doubt = False
        """Whether the master may have a later version."""

    @property
    def logs_to_master(self) -> bool:
        """Whether the worker's stdout is the job's log, instead of numbered chunks."""
        return bool(self.fields["log"] == "master")

    def save(self, master: store.StoreConnection) -> None:
        """Replace the last version on a trusted master. A repetition changes nothing more.

        Raises:
            Contended: another copy's record is there.
        """
        text, self.in_doubt = self.text(), True
        while not master.swap(self.key, self.stored, text):
            seen = master.get(self.key)
            if seen is not None and not self.is_ours(seen):
                raise store.Contended(seen)
            self.stored = seen
            if seen == text:
                break
        self.stored, self.in_doubt = text, False

    def leave(self) -> bool:
        """Write the final record to a file, from which the worker's master reads it after the end of this process."""
        if not self.file or self.in_doubt:
            return False
        try:
            with open(self.file + ".part", "w") as file:
                file.write(store.swap_request(self.key, self.stored, self.text()))
            os.replace(self.file + ".part", self.file)
        except OSError:
            return False  # such as a full disk; the master may have room elsewhere
        return True

    def update(self, **changes: Any) -> None:
        self.fields.update(changes)

    def text(self) -> str:
        """The present record as text."""
        self.fields["heartbeat_at"] = round(time.time(), 3)
        return dumps(self.fields)

    def log_key(self, index: int) -> str:
        return keys.log_key(self.full_id, self.nonce, index)

    def result_key(self, index: int) -> str:
        return keys.result_key(self.full_id, self.nonce, index)

    def is_ours(self, text: str) -> bool:
        """Whether a record of the store is this attempt's: whether it contains this attempt's random token."""
        return ('"token":"%s"' % self.token) in text
