"""What a running master keeps of DAGs that were submitted with the SDK, on every store."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from titan_sdk import NotFound, TitanClient, TitanJob
from titan_sdk.flows.manifest import Submission, SubmittedJob, write_records

# Slow: Jobs grow old by the clock.
pytestmark = pytest.mark.slow

KEEP = 0.5


@pytest.fixture
def keep() -> float:
    return KEEP


@pytest.fixture(params=["sqlite", "redis"])
def master(request: pytest.FixtureRequest, tmp_path: Path, keep: float) -> Iterator[MasterProcess]:
    """One that keeps nothing for long."""
    more = {}
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        more = {"store": server.url, "store_prefix": uuid.uuid4().hex}
    made = MasterProcess(tmp_path / "data", keep_finished_seconds=keep, sweep_seconds=0.05, **more)
    yield made
    made.close()


@pytest.fixture
def client(master: MasterProcess) -> Iterator[TitanClient]:
    with TitanClient(*master.start().address) as made:
        yield made


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "job.py"
    path.write_text("print('hi')")
    return str(path)


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.02)


def is_known(client: TitanClient, name: str) -> bool:
    try:
        client.find_dag(name)
    except NotFound:
        return False
    return True


def finish_another(client: TitanClient, script: str) -> None:
    """Jobs that hold the newest number, so that no earlier one is kept for it."""
    client.submit_job(TitanJob(f"newest-{uuid.uuid4().hex}", script, runtime=False)).wait(300)


def test_a_dag_of_plain_jobs_is_forgotten_with_its_jobs(client: TitanClient, script: str) -> None:
    jobs = [
        TitanJob("first", script, runtime=False),
        TitanJob("last", script, runtime=False, parents=["first"]),
    ]
    for name in ("nightly", "a:b|c%", "größe"):
        client.submit_dag(name, jobs).wait(300)
    client.submit_job(TitanJob("alone", script, runtime=False)).wait(300)
    mixed = [TitanJob("with", script), TitanJob("without", script, runtime=False, parents=["with"])]
    client.submit_dag("mixed", mixed).wait(300)
    finish_another(client, script)
    until(lambda: not [key for key in client.store_keys("titan:") if "newest" not in key])
    for name in ("nightly", "a:b|c%", "größe", "alone", "mixed"):
        with pytest.raises(NotFound, match=r"was the DAG .* submitted through this SDK\?"):
            client.find_dag(name)


def test_an_approval_gate_takes_along_what_was_asked_and_answered(client: TitanClient, script: str) -> None:
    dag = client.submit_dag("asks", [TitanJob("asked", script, hitl_message="Go on?")])
    until(lambda: bool(client.pending_approvals()))
    assert client.store_smembers("titan:hitl:queue") == ["hitl-gate-asked"]
    client.approve("asked")
    dag.wait(300)
    finish_another(client, script)
    until(lambda: not [key for key in client.store_keys("titan:") if "newest" not in key])
    assert client.store_smembers("titan:hitl:queue") == []


def test_what_is_unfinished_keeps_its_manifest(
    client: TitanClient, master: MasterProcess, script: str
) -> None:
    """Over restarts, too; and it goes when the job has ended."""
    ends = TitanJob("ends", script, runtime=False)
    waits = TitanJob("waits", script, runtime=False, delay=3_600_000)
    followed = client.submit_dag("mine", [ends, waits])
    for _ in range(2):
        other = f"other-{uuid.uuid4().hex}"
        client.submit_dag(other, [TitanJob(other, script, runtime=False)]).wait(300)
        finish_another(client, script)
        until(lambda other=other: not is_known(client, other))
        assert [job.job_id for job in client.find_dag("mine").jobs] == ["ends", "waits"]
    assert master.stop() == 0
    with TitanClient(*master.start().address) as again:
        finish_another(again, script)
        assert [job.job_id for job in again.find_dag("mine").jobs] == ["ends", "waits"]
        again.cancel_job("waits")
        finish_another(again, script)
        until(lambda: not is_known(again, "mine"))
    assert followed.name == "mine"


@pytest.mark.parametrize("keep", [3.0])  # its result is read after its end
def test_a_job_that_runs_longer_than_jobs_are_kept(client: TitanClient, tmp_path: Path) -> None:
    """Its manifest is there until the job is forgotten, and so is its record."""
    gate, waits = tmp_path / "gate", tmp_path / "waits.py"
    waits.write_text(
        f"import pathlib, threading\nwhile not pathlib.Path({str(gate)!r}).exists(): threading.Event().wait(0.02)\n"
        "import titan_job; titan_job.result(7)"
    )
    script = tmp_path / "job.py"
    script.write_text("print('hi')")
    client.submit_dag("long", [TitanJob("runs", str(waits))])
    for _ in range(2):
        client.submit_dag("short", [TitanJob("short", str(script), runtime=False)]).wait(300)
        finish_another(client, str(script))
        until(lambda: not is_known(client, "short"))
    found = client.find_dag("long")
    gate.touch()
    assert found.wait(300).jobs[0].state == "COMPLETED"
    assert found.result("runs") == 7
    finish_another(client, str(script))
    until(lambda: not [key for key in client.store_keys("titan:") if "newest" not in key])


def test_a_client_that_died_before_it_submitted_leaves_nothing(client: TitanClient) -> None:
    client._run(write_records(Submission("never", "0" * 16, (SubmittedJob("job", "0" * 16),))))
    assert sorted(client.store_keys("titan:")) == [
        "titan:dag:never",
        "titan:dag:never:0000000000000000",
        "titan:job:DAG-job",
    ]
    until(lambda: client.store_keys("titan:") == [])


@pytest.mark.parametrize("keep", [2.0])  # it is looked for after its end, too
def test_what_was_just_submitted_is_always_found(client: TitanClient, script: str, keep: float) -> None:
    """While earlier runs of the same DAG, under the same ids and under new ones, are forgotten."""
    started, runs = time.monotonic(), 0
    while time.monotonic() < started + 3 * keep or runs < 20:
        jobs = [TitanJob(f"new-{runs}", script, runtime=False), TitanJob("same", script, runtime=False)]
        handle = client.submit_dag("often", jobs)
        assert [job.job_id for job in client.find_dag("often").jobs] == [f"new-{runs}", "same"]
        handle.wait(300)
        assert client.find_dag("often").run_id == handle.run_id
        runs += 1
    finish_another(client, script)
    until(lambda: not [key for key in client.store_keys("titan:") if "newest" not in key])


def sent_along(client: TitanClient) -> list[str]:
    """What traveled with jobs and is on the master."""
    found = client.list_artifacts(prefix="titan-").items
    return sorted(artifact.name for artifact in found if "runtime" not in artifact.name)


@pytest.mark.parametrize("keep", [6.0])  # results are read after the end
def test_projects_and_large_scripts_go_when_no_job_needs_them_any_more(
    client: TitanClient, tmp_path: Path
) -> None:
    gate, team = tmp_path / "gate", tmp_path / "team"
    team.mkdir()
    (team / "main.py").write_text("import titan_job; titan_job.result('ran')")
    large = "print('large')\n# " + secrets.token_hex(20_000)
    waits = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)"
    other = tmp_path / "titan-project-of-mine.zip"
    other.write_bytes(b"uploaded by a person")
    client.upload_file(other)
    dag = client.submit_dag(
        "waiting",
        [
            TitanJob("gate", source=waits),
            TitanJob("project", "main.py", project=team, parents=["gate"]),
            TitanJob("large", source=large, parents=["gate"]),
        ],
    )
    project, blob = [name for name in sent_along(client) if name != other.name][::-1]
    assert (project[:14], blob[:11]) == ("titan-project-", "titan-blob-")
    client.submit_job(TitanJob("brief", source=large.replace("large", "brief"))).wait(300)
    until(lambda: len(sent_along(client)) < 4)
    assert sent_along(client) == sorted([project, blob, other.name])
    gate.touch()
    assert [report.state for report in dag.wait(300).jobs] == ["COMPLETED"] * 3
    until(lambda: sent_along(client) == [other.name])
    again = client.submit_job(TitanJob("again", "main.py", project=team))
    assert again.wait(300).result == "ran"


def test_what_a_job_has_published_goes_with_it(client: TitanClient, script: str) -> None:
    name = f"leaves-{uuid.uuid4().hex}"
    source = "import titan_job; open('f', 'w').write('x'); open('c', 'w'); titan_job.checkpoint('c')"
    job = TitanJob(name, source=source, outputs={"f": "f"}, keep_checkpoint=True)
    client.submit_job(job).wait(300)
    finish_another(client, script)
    until(lambda: client.list_artifacts(prefix=f"run~{name}~").items == ())
    assert client.store_keys(f"titan:run:DAG-{name}:") == []
