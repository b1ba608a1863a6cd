"""The keys of the runtime's values in TitanStore, on the worker.

``titan_sdk.runtime.keys`` has the same keys on the reading side; a test compares them.
"""

from __future__ import annotations


def state_key(full_id: str, nonce: str) -> str:
    return "titan:run:%s:%s:state" % (full_id, nonce)


def result_key(full_id: str, nonce: str, index: int) -> str:
    return "titan:run:%s:%s:result:%d" % (full_id, nonce, index)


def lease_key(full_id: str, nonce: str) -> str:
    return "titan:run:%s:%s:lease" % (full_id, nonce)


def cancel_key(full_id: str, nonce: str) -> str:
    return "titan:run:%s:%s:cancel" % (full_id, nonce)


def log_key(full_id: str, nonce: str, index: int) -> str:
    return "titan:run:%s:%s:log:%d" % (full_id, nonce, index)


def checkpoint_key(full_id: str, nonce: str) -> str:
    return "titan:run:%s:%s:checkpoint" % (full_id, nonce)
