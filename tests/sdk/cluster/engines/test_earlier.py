"""A data directory of the version that had keepers: refused while they live, else taken over with what they noted."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting, Peer, script
from tests.support.process_watch import wait_for, worker_processes
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.worker.local_workers import boot_id
from titan_sdk.errors import TitanError

# Slow: Each test kills a master and starts the next one.
pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path, meeting: Meeting) -> Iterator[Path]:
    """Of a master that was killed while ``DAG-job`` ran, whose process has ended since."""
    master = MasterProcess(tmp_path / "data", workers={"GENERAL": 1})
    peer = master.start()
    peer.submit(script("job", meeting.code("up")))
    meeting.arrival()
    master.kill()
    meeting.let_go()
    wait_for(lambda: not worker_processes(tmp_path / "data"))
    yield tmp_path / "data"
    master.close()


def as_of_keeper(folder: Path, pid: int, word: str | None) -> None:
    """What the version before would have left: its keeper's handle, and its last word about the run."""
    with closing(sqlite3.connect(folder / "master.sqlite3")) as db, db:
        ((run,),) = db.execute("SELECT run FROM jobs WHERE job_id = 'DAG-job'").fetchall()
        db.execute(
            "UPDATE jobs SET handle = ? WHERE job_id = 'DAG-job'",
            (f"{pid}:keeper-0123:{boot_id()}:1.2:{folder}/exits.log",),
        )
    lines = [f"{run} @0", f"{run} @{pid}", *([] if word is None else [f"{run} {word}"]), "keeper-0123 closed"]
    (folder / "exits.log").write_text("\n".join(lines) + "\n")


def test_live_keepers_are_refused_with_their_jobs(folder: Path) -> None:
    keeper = subprocess.Popen([sys.executable, "-c", "input()", "keeper-0123"], stdin=subprocess.PIPE)
    as_of_keeper(folder, keeper.pid, None)
    with pytest.raises(TitanError, match=r"DAG-job still run in .* start that version once more"):
        LocalCluster({"GENERAL": 1}, data_dir=folder).start()
    keeper.communicate(b"\n")
    # Nothing was changed; when it has ended the folder is taken over.
    as_of_keeper(folder, keeper.pid, "0")
    assert ended(folder) == "COMPLETED"


@pytest.mark.parametrize(("word", "state"), [("0", "COMPLETED"), ("98", "DEAD")])
def test_what_a_keeper_noted_counts(folder: Path, word: str, state: str) -> None:
    as_of_keeper(folder, 4_000_000, word)
    assert ended(folder) == state


def test_a_keeper_that_was_killed_costs_a_run(folder: Path, meeting: Meeting) -> None:
    as_of_keeper(folder, 4_000_000, None)
    with LocalCluster({"GENERAL": 1}, data_dir=folder) as cluster:
        assert meeting.arrival()[0] == "up"
        meeting.let_go()
        peer = Peer((cluster.host, cluster.port))
        assert peer.until("job") == "COMPLETED"
        assert peer.ask(0x42, '{"id": "DAG-job"}').text.count("queued again") == 1


def as_of_before(folder: Path) -> None:
    """A folder that was stopped in order, as the version before would have left it."""
    with closing(sqlite3.connect(folder / "master.sqlite3")) as db, db:
        db.execute("DROP INDEX jobs_dag")
        for column in ("tag", "dag", "dag_run"):
            db.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        db.execute("CREATE TABLE manifests (key TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID")
        db.execute("CREATE INDEX manifests_due ON manifests(at)")
        db.execute("INSERT INTO manifests SELECT key, 1.0 FROM kv WHERE key LIKE 'titan:dag:%'")
        runs = [run for (run,) in db.execute("SELECT run FROM jobs WHERE run IS NOT NULL")]
    for name in ("ends", "machine", "local"):
        shutil.rmtree(folder / name)
    lines = [line for run in runs for line in (f"{run} @0", f"{run} @4000000", f"{run} 0")]
    (folder / "exits.log").write_text("\n".join([*lines, "keeper-0123 closed", ""]))


def everything(client: TitanClient, jobs: list[str], into: Path) -> dict[str, object]:
    """What a client can learn."""
    found: dict[str, object] = {job: (client.job_report(job), client.fetch_logs(job)) for job in jobs}
    found |= {job + " history": client.job_details(job).history for job in jobs}
    found |= {key: client.store_get(key) for key in ("text", "empty", "large")}
    found["members"] = sorted(client.store_smembers("members"))
    for name in ("file.bin", "project.zip"):
        client.fetch_artifact(name, str(into / "back"))
        found[name] = (into / "back").read_bytes()
    client.get_artifact("published", str(into / "back"))
    found["published"] = (into / "back").read_bytes()
    dag = client.find_dag("graph")
    return found | {
        "dag": [dag.status(), [job.job_id for job in dag.jobs], [job.result for job in dag.wait(60).jobs]]
    }


def fill(client: TitanClient, folder: Path, port: int) -> list[str]:
    """A bit of everything; the jobs that have ended."""
    (folder / "project").mkdir()
    (folder / "project" / "main.py").write_text("print(1)")
    (folder / "file.bin").write_bytes(bytes(range(256)) * 10_000)

    def job(name: str, code: str, **more: Any) -> TitanJob:
        (folder / f"{name}.py").write_text(code)
        return TitanJob(name, str(folder / f"{name}.py"), **more)

    said = "import titan_job; print('é'); titan_job.result({'é': 'x' * 100_000})"
    client.submit_job(job("good", said)).wait(240)
    client.submit_job(job("bad", "1 / 0")).wait(240, raise_on_failure=False)
    client.submit_job(job("plain", "print('plain')", runtime=False)).wait(240)
    client.submit_job(job("stopped", "", requirement="LATER")).cancel()
    client.submit_dag("graph", [job("one", said), job("two", said, parents=["one"])]).wait(240)
    client.submit_job(job("queued", said, requirement="LATER"))
    client.submit_dag(
        "waits", [job("first", said, requirement="LATER"), job("then", said, parents=["first"])]
    )
    serving = f"import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
    client.submit_job(job("service", serving, job_type="DEPLOY_PAYLOAD", port=port)).wait(240)
    for key, value in {"text": "|,é\n", "empty": "", "large": "y" * 3_000_000}.items():
        client.store_put(key, value)
    for member in ("a,b", "c|d"):
        client.store_sadd("members", member)
    client.upload_file(str(folder / "file.bin"))
    client.publish_artifact("published", str(folder / "file.bin"))
    client.upload_project_folder(str(folder / "project"), "project")
    return ["good", "bad", "plain", "stopped", "one", "two"]


def test_everything_in_it_is_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    data = tmp_path / "data"
    with (
        LocalCluster({"GENERAL": 2}, data_dir=data) as cluster,
        TitanClient(cluster.host, cluster.port) as client,
    ):
        jobs = fill(client, tmp_path, port)
        before = everything(client, jobs, tmp_path)
    as_of_before(data)
    with (
        LocalCluster({"GENERAL": 2, "LATER": 1}, data_dir=data) as cluster,
        TitanClient(cluster.host, cluster.port) as client,
    ):
        assert everything(client, jobs, tmp_path) == before
        listed = {job.job_id: (job.tag, job.dag) for job in client.list_jobs().items}
        assert listed["DAG-two"] == ("GENERAL", "graph")
        assert listed["DAG-queued"] == ("LATER", None)
        for name in ("queued", "first", "then"):
            assert client.job_report(name).state != "DEAD"
            wait_for(lambda name=name: client.get_job_status(name) == "COMPLETED")  # type: ignore[misc]
            assert client.job_details(name).attempts == 1
        assert client.find_dag("waits").wait(60).jobs[1].result == {"é": "x" * 100_000}
        wait_for(lambda: answers(port))
        client.stop_service("service")
        wait_for(lambda: not answers(port))


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def ended(folder: Path) -> str:
    with LocalCluster({"GENERAL": 1}, data_dir=folder) as cluster:
        return Peer((cluster.host, cluster.port)).until("job")
