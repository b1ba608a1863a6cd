"""Multi-step operations, each written once for both clients.

A module is loaded when it is first used, so a script imports only what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titan_sdk.flows import (
        approvals as approvals,
        archives as archives,
        artifacts as artifacts,
        assets as assets,
        cancel as cancel,
        checkpoints as checkpoints,
        confirmed_writes as confirmed_writes,
        core as core,
        files as files,
        large_values as large_values,
        listing as listing,
        liveness as liveness,
        logs as logs,
        manifest as manifest,
        master_log as master_log,
        owner_lease as owner_lease,
        pipeline as pipeline,
        report as report,
        resubmit as resubmit,
        server as server,
        staging as staging,
        store as store,
        submit as submit,
        transfer as transfer,
        wait as wait,
    )


def __getattr__(name: str) -> Any:
    module = f"{__name__}.{name}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name != module:
            raise  # one that this module imports
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
