"""Bytes to values and back, both halves side by side.

A module is loaded when it is first used, so a script imports only what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titan_sdk.wire import (
        calls as calls,
        exactly_once as exactly_once,
        extended_calls as extended_calls,
        extensions as extensions,
        fields as fields,
        frames as frames,
        hello as hello,
        jobs as jobs,
        listing as listing,
        opcodes as opcodes,
        statsjson as statsjson,
    )


def __getattr__(name: str) -> Any:
    module = f"{__name__}.{name}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name != module:
            raise  # one that this module imports
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
