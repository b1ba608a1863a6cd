"""Checkpoints that outlive their runs: listed, read and removed by their keys."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote

from titan_sdk.flows.core import Flow, ask
from titan_sdk.flows.server import server_info
from titan_sdk.flows.store import store_keys
from titan_sdk.model.checkpoint import Checkpoint, parse_checkpoint
from titan_sdk.model.files import FileRef
from titan_sdk.runtime import keys
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls

__all__ = ["get_checkpoint", "list_checkpoints", "remove_checkpoint"]


def get_checkpoint(key: str) -> Flow[Checkpoint | None]:
    """The checkpoint of a key, or ``None``."""
    text = yield from ask(calls.kv_get(keys.checkpoint_key(key)))
    found = None if text is None else parse_checkpoint(key, text)
    # A real master cannot delete, so a removed checkpoint is still there, but has no files.
    return None if found is None or (found.is_over and not found.file and not found.left) else found


def list_checkpoints(session: Session, prefix: str) -> Flow[list[Checkpoint]]:
    """The checkpoints whose keys begin with ``prefix``, sorted by key.

    Raises:
        NotSupported: the master is a real one.
    """
    begin = keys.checkpoint_key(prefix) if prefix else keys.CHECKPOINTS
    found = []
    stored_keys = yield from store_keys(session, begin)
    for stored in stored_keys:
        text = yield from ask(calls.kv_get(stored))
        if text is not None:
            found.append(parse_checkpoint(unquote(stored.removeprefix(keys.CHECKPOINTS)), text))
    return sorted(found, key=lambda each: each.key)


def remove_checkpoint(session: Session, key: str) -> Flow[bool]:
    """Remove a checkpoint and its files. Returns whether a job could have continued from it."""
    found = yield from get_checkpoint(key)
    if found is None:
        return False
    info = yield from server_info(session)
    stored = keys.checkpoint_key(key)
    # The value goes before the files: a job that reads it meanwhile then starts anew.
    if "store_ops" in info.features:
        yield from ask(extended_calls.store_delete(stored))
    else:
        # A real master cannot delete. "removed" is no run's name, so every job takes the checkpoint as over.
        yield from ask(replace(calls.kv_set(stored, '{"v":1,"done":"removed"}'), repeatable=True))
    for ref in (*found.left, *([found.file] if found.file else [])):
        yield from _remove(ref, deletes="asset_delete" in info.features)
    return not found.is_over


def _remove(ref: FileRef, *, deletes: bool) -> Flow[None]:
    for name in ref.part_names:
        if deletes:
            yield from ask(extended_calls.asset_delete(name))
        else:
            yield from ask(replace(calls.upload_asset(name, b""), with_id=False, repeatable=True))
