"""The keys of the runtime's values in TitanStore. They contain id and nonce, so a reused id reads no old values.

``worker/keys.py`` has the same keys on the worker; a test compares them.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote

__all__ = [
    "CHECKPOINTS",
    "cancel_key",
    "checkpoint_key",
    "job_key",
    "lease_key",
    "log_key",
    "own_checkpoint_key",
    "result_key",
    "run_artifacts",
    "state_key",
]


def job_key(full_id: str) -> str:
    """The job's record with its nonce, which the client writes before the submit."""
    return f"titan:job:{full_id}"


def state_key(full_id: str, nonce: str) -> str:
    """The state record."""
    return f"titan:run:{full_id}:{nonce}:state"


def result_key(full_id: str, nonce: str, index: int) -> str:
    """Slice `index` of the result's JSON text."""
    return f"titan:run:{full_id}:{nonce}:result:{index}"


def lease_key(full_id: str, nonce: str) -> str:
    """The owner's lease; see ``worker/owner_lease.py``."""
    return f"titan:run:{full_id}:{nonce}:lease"


def cancel_key(full_id: str, nonce: str) -> str:
    """The cancel mark, with any content: this submission's code must not start, and must end if it runs."""
    return f"titan:run:{full_id}:{nonce}:cancel"


def log_key(full_id: str, nonce: str, index: int) -> str:
    """Chunk `index` of the output, counted from 0 over all attempts."""
    return f"titan:run:{full_id}:{nonce}:log:{index}"


def run_artifacts(full_id: str, nonce: str) -> str:
    """The beginning of the names of a run's artifacts."""
    short = full_id.removeprefix("DAG-")
    if len(short) > 100:
        short = f"{short[:83]}-{hashlib.sha256(short.encode('utf-8', 'replace')).hexdigest()[:16]}"
    return f"run~{short}~{nonce}~"


CHECKPOINTS = "titan:checkpoint:"
"""The beginning of the keys of checkpoints that outlive their runs."""


def own_checkpoint_key(full_id: str, nonce: str) -> str:
    """The key of a run's own checkpoint."""
    return f"titan:run:{full_id}:{nonce}:checkpoint"


def checkpoint_key(key: str) -> str:
    """The key of the checkpoint with a user's key. It is ASCII, and of bounded length."""
    name = quote(key, safe="+:@.-_~/=")
    if len(name) > 300:
        name = f"{name[:230]}~{hashlib.sha256(name.encode()).hexdigest()}"
    return CHECKPOINTS + name
