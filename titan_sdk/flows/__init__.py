"""Multi-step operations, each written once for both clients.

A module is loaded when it is first used: what a script does not do costs it no imports.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titan_sdk.flows import (
        approvals as approvals,
    )
    from titan_sdk.flows import (
        archives as archives,
    )
    from titan_sdk.flows import (
        artifacts as artifacts,
    )
    from titan_sdk.flows import (
        assets as assets,
    )
    from titan_sdk.flows import (
        cancel as cancel,
    )
    from titan_sdk.flows import (
        core as core,
    )
    from titan_sdk.flows import (
        keeping as keeping,
    )
    from titan_sdk.flows import (
        large_values as large_values,
    )
    from titan_sdk.flows import (
        lease as lease,
    )
    from titan_sdk.flows import (
        listing as listing,
    )
    from titan_sdk.flows import (
        liveness as liveness,
    )
    from titan_sdk.flows import (
        logs as logs,
    )
    from titan_sdk.flows import (
        manifest as manifest,
    )
    from titan_sdk.flows import (
        master_log as master_log,
    )
    from titan_sdk.flows import (
        pipeline as pipeline,
    )
    from titan_sdk.flows import (
        report as report,
    )
    from titan_sdk.flows import (
        resubmit as resubmit,
    )
    from titan_sdk.flows import (
        server as server,
    )
    from titan_sdk.flows import (
        staging as staging,
    )
    from titan_sdk.flows import (
        store as store,
    )
    from titan_sdk.flows import (
        submit as submit,
    )
    from titan_sdk.flows import (
        transfer as transfer,
    )
    from titan_sdk.flows import (
        wait as wait,
    )


def __getattr__(name: str) -> Any:
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
