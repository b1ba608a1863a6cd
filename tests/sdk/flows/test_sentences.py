"""Refusals name the operation, what is wrong with it, and the way out, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, InvalidArgument, NotSupported, WaitTimedOut
from titan_sdk.flows import artifacts, listing, server, store, wait
from titan_sdk.flows.core import Flow
from titan_sdk.session import Session
from titan_sdk.wire.listing import List, read_job
from titan_sdk.wire.opcodes import Opcode

ONLY_BUNDLED: dict[str, tuple[Callable[[Session], Flow[object]], str]] = {
    "store_delete": (lambda s: store.store_delete(s, "k"), "overwrite the value with an empty text instead"),
    "store_keys": (lambda s: store.store_keys(s), "keep the names in a set of your own (store_sadd)"),
    "store_expire": (
        lambda s: store.store_expire(s, "k", 1),
        "overwrite the value when it is not needed any more",
    ),
    "store_swap": (lambda s: store.store_swap(s, "k", None, None), "let one client alone write the key"),
    "job_details": (
        lambda s: server.job_details(s, "a"),
        "ask job_report(), which a job's own runtime fills",
    ),
    "changes": (lambda s: listing.changes(s, None, 1.0), "ask for the jobs' states (get_job_statuses)"),
    "list_jobs": (
        lambda s: listing.list_page(s, List("jobs"), read_job),
        "cluster_stats() has what it tells: each worker's latest jobs, its services, and the length of the queue",
    ),
    "delete_artifact": (
        lambda s: artifacts.delete_artifact(s, "a"),
        "an upload under the same name replaces it, by an empty file, say",
    ),
}


@pytest.mark.parametrize("operation", ONLY_BUNDLED)
def test_a_real_master_is_not_asked_for_what_it_has_not(operation: str) -> None:
    flow, instead = ONLY_BUNDLED[operation]
    runner = FlowRunner(MasterModel())
    with pytest.raises(NotSupported) as caught:
        runner.run(flow(Session(ClientConfig("h", 1))))
    assert str(caught.value) == f"{operation}: the Titan master at h:1 has no such operation; {instead}"
    assert [opcode for opcode, _ in runner.calls] == [Opcode.HELLO]


NO_TEXT: dict[str, Callable[[Session], Flow[object]]] = {
    "store_get: the key 1 is": lambda _: store.store_get(1),  # type: ignore[arg-type]
    "store_put: the key 1 is": lambda s: store.store_put(s, 1, ""),  # type: ignore[arg-type]
    "store_put: the value 1 is": lambda s: store.store_put(s, "k", 1),  # type: ignore[arg-type]
    "store_delete: the key 1 is": lambda s: store.store_delete(s, 1),  # type: ignore[arg-type]
    "store_keys: the prefix 1 is": lambda s: store.store_keys(s, 1),  # type: ignore[arg-type]
    "store_expire: the key 1 is": lambda s: store.store_expire(s, 1, 1),  # type: ignore[arg-type]
    "store_expire: seconds 0 is not a number above 0": lambda s: store.store_expire(s, "k", 0),
    "store_expire: seconds inf is not a number": lambda s: store.store_expire(s, "k", float("inf")),
    "store_swap: the key 1 is": lambda s: store.store_swap(s, 1, "", ""),  # type: ignore[arg-type]
    "store_swap: the expected value 1 is": lambda s: store.store_swap(s, "k", 1, ""),  # type: ignore[arg-type]
    "store_swap: the value 1 is": lambda s: store.store_swap(s, "k", "", 1),  # type: ignore[arg-type]
    "store_sadd: the key 1 is": lambda s: store.store_sadd(s, 1, ""),  # type: ignore[arg-type]
    "store_sadd: the member 1 is": lambda s: store.store_sadd(s, "k", 1),  # type: ignore[arg-type]
    "store_smembers: the key 1 is": lambda _: store.store_smembers(1),  # type: ignore[arg-type]
    "changes: wait -1 is not a number of seconds": lambda s: listing.changes(s, None, -1),
}


@pytest.mark.parametrize("sentence", NO_TEXT)
def test_a_value_of_the_wrong_type_is_named_and_not_sent(sentence: str) -> None:
    runner = FlowRunner(MasterModel(bundled=True))
    with pytest.raises(InvalidArgument) as caught:
        runner.run(NO_TEXT[sentence](Session(ClientConfig())))
    assert str(caught.value).startswith(sentence)
    assert runner.calls == []


@pytest.mark.parametrize("name", ["", "a|b", ".", "..", "a/b", "a\0b"])
def test_what_no_artifact_can_be_called(name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be an artifact's name; rename the file without"):
        artifacts._safe_name(name)


@pytest.mark.parametrize("name", ["", " a", "a ", "..", "a/../b", "../a", "/a", "a\0b"])
def test_what_no_artifact_is_asked_for_by(name: str) -> None:
    runner = FlowRunner(MasterModel())
    with pytest.raises(InvalidArgument, match="is not the name of an artifact; give it as it was uploaded"):
        runner.run(artifacts.fetch_artifact(Session(ClientConfig()), name))
    assert runner.calls == []


@pytest.mark.parametrize(("count", "rest"), [(5, ""), (6, " and 1 more"), (12, " and 7 more")])
def test_a_wait_that_took_too_long_names_five_jobs(count: int, rest: str) -> None:
    ids = [f"DAG-j{n}" for n in range(count)]
    error = wait._too_late(ids, dict.fromkeys(ids, wait.JobStatus.RUNNING), 2.5)
    shown = ", ".join(f"j{n} RUNNING" for n in range(5))
    assert isinstance(error, WaitTimedOut)
    assert (
        str(error) == f"wait: not over after 2.5 s: {shown}{rest}; the work goes on, wait again or cancel it"
    )
