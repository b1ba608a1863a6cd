"""The state record: the one value in the store that says how the job stands."""

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
    """This attempt's state, kept by one thread at a time and written whole each time."""

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
            # Chunks of earlier attempts are kept: numbering goes on where they stopped.
            "log_chunks": first_chunk,
            # "master": there are none, as it keeps the log.
            "log": None,
            # How long it may go silent while it is being stopped.
            "cancel_grace": spec["cancel_grace"],
            "result": None,
            # How it came to stand, and how long that took.
            "environment": None,
            # Lets another launcher on this machine know at once that this one is gone.
            "processes": processes.identity(os.getpid()),
        }

        folder, run = os.environ.get("TITAN_RUNTIME_ENDS"), os.environ.get("TITAN_RUN")
        self.file = store.held(folder) + "/" + run if folder and run else None
        """Where it can be left for the worker's master."""
        self.stored: Optional[str] = None
        """Its last version that a trusted master has, or another record that this one is to follow."""
        self.in_doubt = False
        """Whether the master may have a version after that."""

    @property
    def logs_to_master(self) -> bool:
        """Whether the worker's stdout is the job's log, rather than numbered chunks."""
        return bool(self.fields["log"] == "master")

    def save(self, master: store.StoreConnection) -> None:
        """Write it over its own last version, at a master that is trusted. Repeated, it changes nothing more.

        Raises:
            Contended: somebody else's record is there.
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
        """Hand it in by a file, where the worker's master takes it from there once this process has ended."""
        if not self.file or self.in_doubt:
            return False
        try:
            with open(self.file + ".part", "w") as file:
                file.write(store.swap_request(self.key, self.stored, self.text()))
            os.replace(self.file + ".part", self.file)
        except OSError:
            return False  # the disk is full, say: the master may have room elsewhere
        return True

    def update(self, **changes: Any) -> None:
        self.fields.update(changes)

    def text(self) -> str:
        """The record as of now."""
        self.fields["heartbeat_at"] = round(time.time(), 3)
        return dumps(self.fields)

    def log_key(self, index: int) -> str:
        return keys.log_key(self.full_id, self.nonce, index)

    def result_key(self, index: int) -> str:
        return keys.result_key(self.full_id, self.nonce, index)

    def is_ours(self, text: str) -> bool:
        """Whether a record read from the store is this attempt's. Tokens are random, so their text will do."""
        return ('"token":"%s"' % self.token) in text
