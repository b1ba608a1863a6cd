"""With the warm runner, a job with the runtime begins as a fork, too, and finds what it finds without."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.engines.keeper_link import Kind
from titan_sdk.cluster.engines.keepers import Keepers
from titan_sdk.errors import JobFailed

REPORT = """
import os, sys, titan_job
def up(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
launcher = up(os.getppid())
titan_job.result({
    "forked": "keeper_start" in open(f"/proc/{launcher}/cmdline").read(),
    "args": sys.argv[1:], "python": sys.executable, "env": os.environ.get("GIVEN"), "params": titan_job.params,
    "modules": sorted(sys.modules), "flags": str(sys.flags), "path": sys.path[1:], "cwd": os.path.basename(os.getcwd()),
    "run": os.environ["TITAN_RUN"] == open(f"/proc/{launcher}/environ").read().split("TITAN_RUN=")[1].split("\\0")[0],
})
print("to the log")
"""


@pytest.fixture(scope="module")
def warm() -> Iterator[TitanClient]:
    with (
        LocalCluster({"GENERAL": 1}, warm_python=True) as running,
        TitanClient(running.host, running.port) as client,
    ):
        yield client


def job(tmp_path: Path, job_id: str, code: str, **more: object) -> TitanJob:
    script = tmp_path / f"{job_id}.py"
    script.write_text(code)
    return TitanJob(job_id, str(script), **more)  # type: ignore[arg-type]


def test_it_is_a_fork_and_the_script_does_not_see_it(
    warm: TitanClient, client: TitanClient, tmp_path: Path
) -> None:
    # The first job of a machine finds the runtime not compiled yet, elsewhere than all later ones.
    client.submit_job(job(tmp_path, f"first-{os.getpid()}", "")).wait(300)
    found = {}
    for name, master in (("warm", warm), ("cold", client)):
        done = master.submit_job(
            job(
                tmp_path,
                f"seen-{os.getpid()}-{name}",
                REPORT,
                args=["a b", "c"],
                env={"GIVEN": "ä"},
                params={"x": [1]},
            )
        )
        done.wait(300)
        assert done.logs() == "to the log\n"
        found[name] = done.result()
    assert (found["warm"].pop("forked"), found["cold"].pop("forked")) == (True, False)
    assert found["warm"] == found["cold"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(7)", "exit code 7"),
        ("1 / 0", "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
    ],
)
def test_a_failure_is_told_as_ever(warm: TitanClient, tmp_path: Path, code: str, words: str) -> None:
    handle = warm.submit_job(job(tmp_path, f"fails-{abs(hash(code))}", code))
    with pytest.raises(JobFailed, match=words):
        handle.wait(300)


def test_another_python_is_started_as_ever(warm: TitanClient, tmp_path: Path) -> None:
    code = REPORT.replace('"modules": sorted(sys.modules), ', "")
    handle = warm.submit_job(job(tmp_path, "other-python", code, python=sys.executable))
    handle.wait(300)
    assert handle.result()["forked"] is False


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({"PATH": f"{Path(sys.executable).parent}:/usr/bin"}, True),
        ({"PATH": f"/nowhere:{Path(sys.executable).parent}"}, True),
        ({"PATH": "/nowhere"}, False),
        ({}, False),
        ({"PATH": str(Path(sys.executable).parent), "BASH_ENV": "/etc/profile"}, False),
    ],
)
def test_only_where_a_shell_would_find_the_same_python(
    tmp_path: Path, environment: dict[str, str], first: bool
) -> None:
    keepers = Keepers(tmp_path / "exits", lambda _: environment, lambda *_: None, lambda _: None)
    assert keepers.is_first_python("GENERAL-1") is first


async def test_kinds_have_keepers_of_their_own(tmp_path: Path) -> None:
    keepers = Keepers(tmp_path / "exits", lambda _: dict(os.environ), lambda *_: None, lambda _: None)
    try:
        one = {kind: keepers.reserve("GENERAL-1", kind) for kind in Kind}
        assert len(set(one.values())) == len(Kind)
        assert keepers.reserve("GENERAL-2", Kind.COLD) is one[Kind.COLD]
        assert keepers.reserve("GENERAL-2", Kind.LAUNCHERS) is not one[Kind.LAUNCHERS]
    finally:
        keepers.stop()
