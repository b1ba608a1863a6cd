"""Titan SDK: submit jobs and DAGs to a Titan cluster, follow them, share state between them.

Importing this package imports nothing outside the standard library and reads nothing from the environment.
"""

from __future__ import annotations

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
    WaitTimedOut,
)
from titan_sdk.handles import DagHandle, JobHandle
from titan_sdk.model.artifact import ArtifactRef
from titan_sdk.model.gates import PendingApproval
from titan_sdk.model.job import TitanJob
from titan_sdk.model.loglines import LogLine, LogLines
from titan_sdk.model.report import DagReport, JobDetails, JobReport, LogPage, RemoteException
from titan_sdk.model.stats import ClusterStats, JobHistoryEntry, ServerInfo, WorkerStats
from titan_sdk.model.status import JobStatus

__version__ = "0.1.0"

__all__ = [
    "TLS",
    "ArtifactRef",
    "AsyncDagHandle",
    "AsyncJobHandle",
    "AsyncTitanClient",
    "AuthenticationFailed",
    "ClientConfig",
    "ClusterStats",
    "ConnectFailed",
    "ConnectionLost",
    "CorruptData",
    "DagFailed",
    "DagHandle",
    "DagReport",
    "InvalidArgument",
    "InvalidDag",
    "InvalidJob",
    "InvalidPipeline",
    "JobDetails",
    "JobFailed",
    "JobHandle",
    "JobHistoryEntry",
    "JobReport",
    "JobStatus",
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
    "WaitTimedOut",
    "WorkerStats",
]
