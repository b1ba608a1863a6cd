"""A client and a bundled master of different versions, both ways: each takes the way that the other knows.

The version before knows none of ``LATER`` and announces no launcher. Its own launcher keeps chunks of the log and reads back
what it writes, on whichever master.
"""

from __future__ import annotations

import hashlib
import io
import time
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from titan_sdk import JobFailed, JobStatus, NotSupported, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.requests import opcode_table
from titan_sdk.flows import staging
from titan_sdk.model.server import ServerInfo
from titan_sdk.runtime import bundle
from titan_sdk.runtime.bundle import Asset
from titan_sdk.wire import hello
from titan_sdk.wire.opcodes import Opcode

# Slow: Each test has a cluster of its own, whose answers are another version's.
pytestmark = pytest.mark.slow

LATER = {
    "submit": Opcode.SUBMIT,
    "list": Opcode.LIST,
    "changes": Opcode.CHANGES,
    "reports": None,
    "run_logs": None,
}
"""What the version before does not know, and the request that belongs to it."""


def launcher_before() -> Asset:
    """One that trusts no master, and so takes the long way."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(bundle.runtime_bundle().data)) as source,
        zipfile.ZipFile(target, "w") as made,
    ):
        for name in source.namelist():
            text = source.read(name)
            if name.endswith("/store.py"):
                text = text.replace(b"self.trusted = b'\"run_logs\"' in said", b"self.trusted = False")
                assert b'"run_logs"' not in text
            made.writestr(name, text)
    data = target.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    return Asset(f"titan-runtime-{digest[:32]}.zip", data, digest)


@pytest.fixture(params=["client before", "master before"])
def older(request: pytest.FixtureRequest, mocker: MockerFixture) -> str:
    """Which of the two is of the version before."""
    other = launcher_before()
    if request.param == "client before":
        read = hello.read_reply

        def as_before(text: str) -> ServerInfo:
            info = read(text)
            return ServerInfo(info.kind, info.version, info.features - LATER.keys())

        mocker.patch("titan_sdk.wire.calls.hello.read_reply", as_before)
        mocker.patch.object(staging, "runtime_bundle", return_value=other)
    else:
        mocker.patch.object(
            opcode_table, "FEATURES", tuple(name for name in opcode_table.FEATURES if name not in LATER)
        )
        real = opcode_table.hello.reply

        def said(version: str, features: Any, runtime: str) -> str:
            return real(version, features, runtime).replace(f', "runtime": "{runtime}"', "")

        mocker.patch("titan_sdk.cluster.requests.opcode_table.hello.reply", said)
        mocker.patch("titan_sdk.cluster.engines.staging.runtime_bundle", return_value=other)
    return str(request.param)


@pytest.fixture
def asked(mocker: MockerFixture) -> Counter[int]:
    """How often each request came, from clients and launchers."""
    counts: Counter[int] = Counter()
    real = opcode_table.Requests.answer

    def answer(requests: opcode_table.Requests, frame: Any) -> Any:
        counts[frame.opcode] += 1
        return real(requests, frame)

    mocker.patch.object(opcode_table.Requests, "answer", answer)
    return counts


@pytest.fixture
def api(older: str, asked: Counter[int]) -> Iterator[TitanClient]:
    with LocalCluster({"GENERAL": 2}) as running, TitanClient(running.host, running.port) as client:
        yield client
    # Nobody sends what the version before would not know.
    assert asked[Opcode.HELLO]
    assert not [name for name, opcode in LATER.items() if opcode is not None and asked[opcode]]


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., TitanJob]:
    def make(code: str, name: str = "job", **more: Any) -> TitanJob:
        path = tmp_path / f"{name}.py"
        path.write_text(code)
        return TitanJob(f"{name}-{uuid.uuid4().hex[:8]}", str(path), **more)

    return make


def test_results_and_logs(api: TitanClient, job: Callable[..., TitanJob]) -> None:
    code = (
        "import sys, titan_job\nfor n in range(3): print('line', n, 'é')\n"
        "titan_job.result([titan_job.params, sys.argv[1:], 'x' * titan_job.params])\n"
    )
    for size in (10, 200_000):
        handle = api.submit_job(job(code, args=["a b"], params=size))
        assert list(api.follow_logs(handle.job_id)) == [f"line {n} é" for n in range(3)]
        report = handle.wait(120)
        assert (report.result, report.attempts) == ([size, ["a b"], "x" * size], 1)
        assert api.fetch_logs(handle.job_id) == "".join(f"line {n} é\n" for n in range(3))
        # Its launcher went the long way.
        assert any(":log:" in key for key in api.store_keys("titan:"))


def test_failures_and_attempts(api: TitanClient, job: Callable[..., TitanJob]) -> None:
    handle = api.submit_job(job("print('told', flush=True)\n1 / 0", max_attempts=2))
    with pytest.raises(JobFailed, match="ZeroDivisionError") as caught:
        handle.wait(120)
    assert (caught.value.report.attempts, caught.value.report.exit_code) == (2, 1)
    assert api.fetch_logs(handle.job_id).count("told\n") == 2
    assert "division by zero" in caught.value.report.log_tail


def test_a_dag(api: TitanClient, job: Callable[..., TitanJob]) -> None:
    first = job("print(1)", "first")
    second = job("import titan_job; titan_job.result(2)", "second", parents=[first.job_id])
    bad = job("raise SystemExit(3)", "bad")
    never = job("print('never')", "never", parents=[bad.job_id])
    report = api.submit_dag(f"dag-{uuid.uuid4().hex[:8]}", [first, second, bad, never]).wait(
        120, raise_on_failure=False
    )
    assert [found.state for found in report.jobs] == ["COMPLETED", "COMPLETED", "DEAD", "DEAD"]
    assert report.jobs[1].result == 2
    assert "never ran" in api.fetch_logs(never.job_id)


def test_a_cancel(api: TitanClient, job: Callable[..., TitanJob]) -> None:
    handle = api.submit_job(job("import time\nprint('up', flush=True)\ntime.sleep(600)"))
    assert next(api.follow_logs(handle.job_id)) == "up"
    handle.cancel()
    assert handle.wait(120, raise_on_failure=False).state is JobStatus.CANCELLED
    deadline = time.monotonic() + 60
    while api.job_details(handle.job_id).stopping:
        assert time.monotonic() < deadline


def test_what_only_one_of_them_has_is_refused(api: TitanClient) -> None:
    for operation in ("list_jobs", "changes"):
        with pytest.raises(NotSupported, match=f"{operation}: the bundled master .* has no such operation"):
            getattr(api, operation)()
