"""For a job with the runtime no program is started but the user's own, unless its launcher is another version's."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.engines import process
from titan_sdk.errors import InvalidArgument, JobFailed
from titan_sdk.flows import staging
from titan_sdk.runtime import bundle
from titan_sdk.runtime.bundle import Asset

# Whether its launcher is a fork of the worker process, and what the launcher's own code says of itself.
REPORT = """
import os, sys, titan_job
def up(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
command = open(f"/proc/{up(os.getppid())}/cmdline").read()
titan_job.result(["bootstrap.py" in command, os.environ.get("SAID")])
"""


@pytest.fixture
def own() -> Iterator[TitanClient]:
    """Of a master of the test's own, which has looked at nothing yet."""
    with LocalCluster({"GENERAL": 1}) as running, TitanClient(running.host, running.port) as client:
        yield client


def job(tmp_path: Path, job_id: str, code: str = REPORT, **more: object) -> TitanJob:
    script = tmp_path / f"{job_id}.py"
    script.write_text(code)
    return TitanJob(job_id, str(script), **more)  # type: ignore[arg-type]


def changed() -> Asset:
    """The launcher of another version: it tells its jobs so."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(bundle.runtime_bundle().data)) as source,
        zipfile.ZipFile(target, "w") as made,
    ):
        for name in source.namelist():
            text = source.read(name)
            if name.endswith("/main.py"):
                text = text.replace(
                    b'"PYTHONUNBUFFERED": "1",', b'"PYTHONUNBUFFERED": "1", "SAID": "another",'
                )
                assert b"another" in text
            made.writestr(name, text)
    data = target.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    return Asset(f"titan-runtime-{digest[:32]}.zip", data, digest)


def test_its_launcher_is_a_fork(own: TitanClient, tmp_path: Path) -> None:
    handle = own.submit_job(job(tmp_path, "forked"))
    assert handle.wait(300).result == [True, None]


@pytest.mark.parametrize("whose", ["client", "master"])
def test_the_launcher_that_a_client_of_another_version_brings_wins(
    own: TitanClient, tmp_path: Path, mocker: MockerFixture, whose: str
) -> None:
    other = changed()
    if whose == "client":
        mocker.patch.object(staging, "runtime_bundle", return_value=other)
    else:
        # A master of another version, as far as it can tell: its launcher's hash is not the client's.
        mocker.patch("titan_sdk.cluster.engines.staging.runtime_bundle", return_value=other)
    handle = own.submit_job(job(tmp_path, f"of-another-{whose}"))
    assert handle.wait(300).result == [False, "another" if whose == "client" else None]


def test_a_stub_of_another_version_is_run_as_it_is(
    own: TitanClient, tmp_path: Path, mocker: MockerFixture
) -> None:
    real = staging.build_stub
    mocker.patch.object(staging, "build_stub", lambda *args: real(*args) + b"\n# of another version\n")
    assert own.submit_job(job(tmp_path, "another-stub")).wait(300).result == [False, None]


def test_a_job_that_names_its_python_gets_that_one(own: TitanClient, tmp_path: Path) -> None:
    handle = own.submit_job(job(tmp_path, "named", python="python3"))
    assert handle.wait(300).result == [False, None]


@pytest.mark.parametrize(
    ("name", "value"), [("PATH", "/usr/bin:/bin"), ("BASH_ENV", "/dev/null"), ("TITAN_RUNTIME_LEASE", "30")]
)
def test_a_fork_would_not_meet_another_environment(
    tmp_path: Path, mocker: MockerFixture, name: str, value: str
) -> None:
    """What a shell or a launcher would read at its start."""
    real = process.ProcessEngine._may_fork
    seen = []

    def may_fork(engine: process.ProcessEngine, worker: str) -> bool:
        environment = dict(engine._environment(worker))
        engine._first_environment = dict(environment)
        assert real(engine, worker)
        engine._forks.clear()
        mocker.patch.object(engine, "_environment", return_value={**environment, name: value})
        seen.append(real(engine, worker))
        mocker.patch.object(engine, "_environment", return_value=environment)
        return True

    mocker.patch.object(process.ProcessEngine, "_may_fork", may_fork)
    with LocalCluster({"GENERAL": 1}) as running, TitanClient(running.host, running.port) as client:
        client.submit_job(job(tmp_path, "asked", "")).wait(300)
    assert seen == [False]


def test_texts_that_need_quoting_reach_it(own: TitanClient, tmp_path: Path) -> None:
    code = "import sys, os, titan_job; titan_job.result([sys.argv[1:], titan_job.params, os.environ['X']])"
    texts = ["'", '"', "\\", "\n", "ü", "'runtime': {'asset': 'x'}", ""]
    handle = own.submit_job(job(tmp_path, "quoted", code, args=texts, params=texts, env={"X": "'\"\\ü"}))
    assert handle.wait(300).result == [texts, texts, "'\"\\ü"]


def test_warm_python_is_refused_with_a_sentence() -> None:
    with pytest.raises(InvalidArgument, match="warm_python is gone: a job with the runtime is a fork"):
        LocalCluster(warm_python=True)


def test_a_failure_is_told_as_ever(own: TitanClient, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="ZeroDivisionError"):
        own.submit_job(job(tmp_path, "fails", "1 / 0")).wait(300)
