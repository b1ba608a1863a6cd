"""Bytes to values and back, both halves side by side.

A module is loaded when it is first used: what a script does not do costs it no imports.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titan_sdk.wire import (
        calls as calls,
    )
    from titan_sdk.wire import (
        extended_calls as extended_calls,
    )
    from titan_sdk.wire import (
        extensions as extensions,
    )
    from titan_sdk.wire import (
        fields as fields,
    )
    from titan_sdk.wire import (
        frames as frames,
    )
    from titan_sdk.wire import (
        hello as hello,
    )
    from titan_sdk.wire import (
        jobs as jobs,
    )
    from titan_sdk.wire import (
        listing as listing,
    )
    from titan_sdk.wire import (
        once as once,
    )
    from titan_sdk.wire import (
        opcodes as opcodes,
    )
    from titan_sdk.wire import (
        statsjson as statsjson,
    )


def __getattr__(name: str) -> Any:
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
