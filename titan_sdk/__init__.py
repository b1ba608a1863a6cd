"""Titan SDK: submit jobs and DAGs to a Titan cluster, follow them, and share state between them.

Importing this package imports nothing outside the standard library and reads nothing from the environment. A name is
loaded when it is first used, so a program pays only for the names that it uses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titan_sdk.async_client import AsyncTitanClient
    from titan_sdk.async_handles import AsyncDagHandle, AsyncJobHandle
    from titan_sdk.client import TitanClient
    from titan_sdk.config import TLS, ClientConfig, RetryPolicy
    from titan_sdk.errors import (
        AuthenticationFailed,
        ConnectFailed,
        ConnectionLost,
        CorruptData,
        DagFailed,
        InvalidArgument,
        InvalidDag,
        InvalidJob,
        InvalidPipeline,
        JobFailed,
        LocalProtocolError,
        MissingFile,
        NotFound,
        NotSupported,
        PayloadTooLarge,
        PeerProtocolError,
        ProtocolError,
        RequestRefused,
        ResultUnavailable,
        StoreUnavailable,
        SubmissionUnconfirmed,
        TimedOut,
        TitanError,
        TLSFailed,
        TransportError,
        UnreadableValue,
        WaitTimedOut,
    )
    from titan_sdk.handles import DagHandle, JobHandle
    from titan_sdk.model.artifact import ArtifactRef
    from titan_sdk.model.checkpoint import Checkpoint
    from titan_sdk.model.files import FileRef
    from titan_sdk.model.gates import PendingApproval
    from titan_sdk.model.job import TitanJob
    from titan_sdk.model.listing import JobChanges, ListedArtifact, ListedDag, ListedJob, ListPage
    from titan_sdk.model.loglines import LogLine, LogLines
    from titan_sdk.model.report import DagReport, JobDetails, JobReport, LogPage, RemoteException
    from titan_sdk.model.server import ServerInfo
    from titan_sdk.model.stats import ClusterStats, JobHistoryEntry, WorkerStats
    from titan_sdk.model.status import JobStatus

__version__ = "0.1.0"

__all__ = [
    "TLS",
    "ArtifactRef",
    "AsyncDagHandle",
    "AsyncJobHandle",
    "AsyncTitanClient",
    "AuthenticationFailed",
    "Checkpoint",
    "ClientConfig",
    "ClusterStats",
    "ConnectFailed",
    "ConnectionLost",
    "CorruptData",
    "DagFailed",
    "DagHandle",
    "DagReport",
    "FileRef",
    "InvalidArgument",
    "InvalidDag",
    "InvalidJob",
    "InvalidPipeline",
    "JobChanges",
    "JobDetails",
    "JobFailed",
    "JobHandle",
    "JobHistoryEntry",
    "JobReport",
    "JobStatus",
    "ListPage",
    "ListedArtifact",
    "ListedDag",
    "ListedJob",
    "LocalProtocolError",
    "LogLine",
    "LogLines",
    "LogPage",
    "MissingFile",
    "NotFound",
    "NotSupported",
    "PayloadTooLarge",
    "PeerProtocolError",
    "PendingApproval",
    "ProtocolError",
    "RemoteException",
    "RequestRefused",
    "ResultUnavailable",
    "RetryPolicy",
    "ServerInfo",
    "StoreUnavailable",
    "SubmissionUnconfirmed",
    "TLSFailed",
    "TimedOut",
    "TitanClient",
    "TitanError",
    "TitanJob",
    "TransportError",
    "UnreadableValue",
    "WaitTimedOut",
    "WorkerStats",
]

_MODULES = {
    "titan_sdk.async_client": "AsyncTitanClient",
    "titan_sdk.async_handles": "AsyncDagHandle AsyncJobHandle",
    "titan_sdk.client": "TitanClient",
    "titan_sdk.config": "TLS ClientConfig RetryPolicy",
    "titan_sdk.errors": (
        "AuthenticationFailed ConnectFailed ConnectionLost CorruptData DagFailed InvalidArgument InvalidDag "
        "InvalidJob InvalidPipeline JobFailed LocalProtocolError MissingFile NotFound NotSupported "
        "PayloadTooLarge PeerProtocolError ProtocolError RequestRefused ResultUnavailable StoreUnavailable "
        "SubmissionUnconfirmed TimedOut TitanError TLSFailed TransportError UnreadableValue WaitTimedOut "
    ),
    "titan_sdk.handles": "DagHandle JobHandle",
    "titan_sdk.model.artifact": "ArtifactRef",
    "titan_sdk.model.checkpoint": "Checkpoint",
    "titan_sdk.model.files": "FileRef",
    "titan_sdk.model.gates": "PendingApproval",
    "titan_sdk.model.job": "TitanJob",
    "titan_sdk.model.listing": "JobChanges ListPage ListedArtifact ListedDag ListedJob",
    "titan_sdk.model.loglines": "LogLine LogLines",
    "titan_sdk.model.report": "DagReport JobDetails JobReport LogPage RemoteException",
    "titan_sdk.model.server": "ServerInfo",
    "titan_sdk.model.stats": "ClusterStats JobHistoryEntry WorkerStats",
    "titan_sdk.model.status": "JobStatus",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
