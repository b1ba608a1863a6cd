"""The error tree: one root, drawn as it is, every sentence pinned, all of it picklable."""

from __future__ import annotations

import inspect
import pickle
import re
import socket

import pytest

from titan_sdk import errors
from titan_sdk.errors import (
    ConnectFailed,
    ConnectionLost,
    InvalidDag,
    InvalidJob,
    InvalidPipeline,
    MissingFile,
    NotFound,
    PayloadTooLarge,
    PeerProtocolError,
    RequestRefused,
    SubmissionUnconfirmed,
    TimedOut,
    TitanError,
    TransportError,
    WaitTimedOut,
    map_os_errors,
)
from titan_sdk.model.report import DagReport, JobReport
from titan_sdk.model.status import JobStatus

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, Exception)]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn: dict[str, int] = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line):
            drawn[found[2]] = len(found[1]) // 4
    depth = {cls.__name__: cls.__mro__.index(TitanError) for cls in CLASSES}
    assert drawn == depth


def test_every_error_is_public_and_below_the_one_root() -> None:
    assert all(issubclass(cls, TitanError) for cls in CLASSES)
    assert {cls.__name__ for cls in CLASSES} | {"map_os_errors"} == set(errors.__all__)


@pytest.mark.parametrize("cls", [InvalidJob, InvalidDag, InvalidPipeline, MissingFile])
def test_wrong_arguments_are_value_errors(cls: type[Exception]) -> None:
    assert issubclass(cls, ValueError)


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(MissingFile, FileNotFoundError)
    assert issubclass(WaitTimedOut, TimeoutError)


def test_only_a_lost_reply_leaves_the_outcome_unknown() -> None:
    unknown = {cls for cls in CLASSES if cls.outcome_unknown}
    assert unknown == {ConnectionLost, TimedOut, SubmissionUnconfirmed}


@pytest.mark.parametrize(
    "error",
    [
        ConnectFailed("x", address="h:1", operation="submit_dag"),
        errors.StoreUnavailable("x", operation="store_get 'k'"),
        RequestRefused("x", detail="ERROR: y"),
        NotFound("x", detail="NULL"),
        PayloadTooLarge("the DAG", 11, 10, "split it"),
        SubmissionUnconfirmed("x", job_ids=("a", "b")),
        PeerProtocolError("x"),
        MissingFile("x"),
        errors.JobFailed(JobReport("a", JobStatus.DEAD)),
        errors.DagFailed(DagReport("d", (JobReport("a", JobStatus.DEAD),))),
    ],
)
def test_an_error_survives_pickle_with_its_fields(error: TitanError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_a_payload_too_large_says_both_sizes_and_what_to_do() -> None:
    assert str(PayloadTooLarge("submit_dag", 10_485_761, 10_485_760, "split the DAG")) == (
        "submit_dag needs a packet of 10,485,761 bytes, but Titan takes at most 10,485,760; split the DAG"
    )


# -- the one border to the operating system -----------------------------------------------------------


def mapped(error: BaseException, *, connecting: bool) -> TransportError:
    with (
        pytest.raises(TransportError) as caught,
        map_os_errors(address="h:9090", operation="submit_dag", connecting=connecting, seconds=2.5),
    ):
        raise error
    assert caught.value.__cause__ is error
    assert (caught.value.address, caught.value.operation) == ("h:9090", "submit_dag")
    return caught.value


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            TimeoutError(),
            "submit_dag: no connection to h:9090 within 2.5 s; check host, port and firewall",
        ),
        (
            ConnectionRefusedError(111, "Connection refused"),
            (
                "submit_dag: cannot connect to h:9090 (Connection refused); "
                "is a Titan master running there? `titan up` starts one"
            ),
        ),
        (
            socket.gaierror(-2, "Name or service not known"),
            (
                "submit_dag: cannot connect to h:9090 (Name or service not known); "
                "is a Titan master running there? `titan up` starts one"
            ),
        ),
        (
            UnicodeError("label too long"),
            (
                "submit_dag: cannot connect to h:9090 (label too long); "
                "is a Titan master running there? `titan up` starts one"
            ),
        ),
    ],
)
def test_what_fails_before_sending_is_connect_failed(error: Exception, sentence: str) -> None:
    found = mapped(error, connecting=True)
    assert type(found) is ConnectFailed
    assert str(found) == sentence


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (
            TimeoutError(),
            TimedOut,
            (
                "submit_dag: no complete reply from h:9090 within 2.5 s. If nothing ever answers there, check that the "
                "port is a Titan master's (9090 by default) and not another server's, such as the HTTP "
                "dashboard's"
            ),
        ),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            ConnectionLost,
            ("submit_dag: connection to h:9090 broke before a complete reply (Connection reset by peer)"),
        ),
        (
            BrokenPipeError(),
            ConnectionLost,
            ("submit_dag: connection to h:9090 broke before a complete reply (BrokenPipeError)"),
        ),
    ],
)
def test_what_fails_afterwards_says_that_the_outcome_is_unknown(
    error: Exception, kind: type[TransportError], sentence: str
) -> None:
    found = mapped(error, connecting=False)
    assert type(found) is kind
    assert found.outcome_unknown
    assert str(found) == sentence


def test_other_errors_pass_untouched() -> None:
    with (
        pytest.raises(KeyError),
        map_os_errors(address="h:1", operation="x", connecting=True, seconds=1),
    ):
        raise KeyError("k")
