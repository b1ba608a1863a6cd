"""The owner's half of a job's lease; the launcher's half is ``runtime/worker/owner_lease.py``."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from titan_sdk.errors import NotFound
from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.report import JobRef, resolve_nonce
from titan_sdk.runtime import keys
from titan_sdk.wire import calls

__all__ = ["renew", "renewal"]


def renew(ref: JobRef) -> Flow[None]:
    """Write a value that is new to the launcher: the time. No other clock has to agree with it."""
    ref = yield from resolve_nonce(ref)
    if not ref.nonce:
        raise NotFound(f"renew_owner_lease: there is no record of a job {ref.job_id!r} with the runtime")
    call = calls.kv_set(keys.lease_key(ref.full_id, ref.nonce), renewal())
    yield from ask(replace(call, with_id=False, repeatable=True))  # any value is a sign of life


def renewal() -> str:
    """The value of a renewal at this moment."""
    return json.dumps({"v": 1, "renewed_at": time.time()})
