"""The facade is frozen: a change here is a change for users, and belongs in CHANGELOG.md."""

from __future__ import annotations

import inspect

import pytest

import titan_sdk

FACADE = """
ArtifactRef AsyncDagHandle AsyncJobHandle AsyncTitanClient AuthenticationFailed Checkpoint ClientConfig ClusterStats
ConnectFailed ConnectionLost CorruptData DagFailed DagHandle DagReport FileRef InvalidArgument InvalidDag InvalidJob
InvalidPipeline JobChanges JobDetails JobFailed JobHandle JobHistoryEntry JobReport JobStatus ListPage
ListedArtifact ListedDag ListedJob LocalProtocolError LogLine LogLines LogPage
MissingFile NotFound NotSupported PayloadTooLarge PeerProtocolError PendingApproval ProtocolError
RemoteException RequestRefused ResultUnavailable RetryPolicy ServerInfo StoreUnavailable SubmissionUnconfirmed TLS TLSFailed
TimedOut TitanClient TitanError TitanJob TransportError UnreadableValue WaitTimedOut WorkerStats
""".split()

# The constructor that existing scripts call by position; new parameters come after it, by keyword only.
SEED_JOB = {
    "job_id": inspect.Parameter.empty,
    "filename": "",  # the seed requires it; a job with a source may leave it out
    "job_type": "RUN_PAYLOAD",
    "args": None,
    "parents": None,
    "port": 0,
    "is_archive": False,
    "priority": 1,
    "delay": 0,
    "affinity": False,
    "requirement": "GENERAL",
}


def test_facade_is_frozen_and_sorted() -> None:
    assert sorted(titan_sdk.__all__) == FACADE
    assert sorted(FACADE) == FACADE


def test_every_public_error_is_one_titan_error() -> None:
    errors = [value for name in FACADE if inspect.isclass(value := getattr(titan_sdk, name))]
    assert all(issubclass(e, titan_sdk.TitanError) for e in errors if issubclass(e, Exception))


def test_titan_job_keeps_the_seeds_constructor() -> None:
    parameters = list(inspect.signature(titan_sdk.TitanJob).parameters.values())
    positional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert positional == SEED_JOB
    assert list(positional) == list(SEED_JOB)
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(SEED_JOB) :])


def public(cls: type) -> dict[str, object]:
    return {name: value for name, value in vars(cls).items() if not name.startswith("_")}


def test_every_public_name_says_what_it_is() -> None:
    assert [name for name in FACADE if not inspect.getdoc(getattr(titan_sdk, name))] == []


@pytest.mark.parametrize("name", ["TitanClient", "AsyncTitanClient", "JobHandle", "DagHandle"])
def test_every_public_method_says_what_it_promises(name: str) -> None:
    silent = [
        method for method, value in public(getattr(titan_sdk, name)).items() if not inspect.getdoc(value)
    ]
    assert not silent
