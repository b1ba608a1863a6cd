"""Files that are named by their content. Whether the master has one is asked at every submit: its folder may have been
emptied since the last one, and a job whose launcher is gone fails only on the worker.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from titan_sdk.errors import RequestRefused
from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.server import server_info
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls

__all__ = ["BEYOND", "ensure_asset", "is_there"]

BEYOND = 1 << 40
"""An offset behind every artifact's end: the reply is what the artifact is, without a byte of it."""


def is_there(session: Session, name: str, sha256: str) -> Flow[bool]:
    """Whether the master has it whole. A real one is asked for the bytes: to write what is there already would show it
    cut off to whoever reads it at that moment.
    """
    info = yield from server_info(session)
    try:
        if "chunked_artifacts" in info.features:
            return (yield from ask(extended_calls.asset_read(name, BEYOND))).sha256 == sha256
        data = yield from ask(calls.fetch_asset(name))
    except RequestRefused:
        return False
    return hashlib.sha256(data).hexdigest() == sha256


def ensure_asset(session: Session, name: str, data: bytes, sha256: str) -> Flow[None]:
    """Make it available."""
    if not (yield from is_there(session, name, sha256)):
        # Whoever writes under that name writes the same.
        yield from ask(replace(calls.upload_asset(name, data), with_id=False, repeatable=True))
