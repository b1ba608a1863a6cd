"""The owner's half of a job's lease; the launcher's half is ``runtime/worker/owner.py``."""

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
    """Write a value that the launcher has not seen yet: the time, which nobody else has to agree with."""
    ref = yield from resolve_nonce(ref)
    if not ref.nonce:
        raise NotFound(f"renew_owner_lease: nothing is recorded of a job {ref.job_id!r} with the runtime")
    call = calls.kv_set(keys.lease_key(ref.full_id, ref.nonce), renewal())
    yield from ask(replace(call, with_id=False, repeatable=True))  # any value is a sign of life


def renewal() -> str:
    """A value as of now."""
    return json.dumps({"v": 1, "renewed_at": time.time()})
