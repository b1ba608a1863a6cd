"""Files that are named by their content, such as the launcher. Every submit asks whether the master still has them: its
folder may have been emptied, and a job without its launcher would fail only on the worker.
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
"""An offset behind every artifact's end: the reply has the artifact's size and checksum, but no content."""


def is_there(session: Session, name: str, sha256: str) -> Flow[bool]:
    """Whether the master has the whole file. A real master is asked for its bytes: writing an existing file again would
    show a truncated file to a job that reads it at that moment.
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
    """Upload the file, unless the master has it."""
    if not (yield from is_there(session, name, sha256)):
        # Every writer of this name writes the same bytes.
        yield from ask(replace(calls.upload_asset(name, data), with_id=False, repeatable=True))
