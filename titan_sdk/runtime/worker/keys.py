"""Names of the runtime's values in TitanStore, as the launcher writes them.

``titan_sdk.runtime.keys`` says the same on the reading side; a test holds the two together.
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
