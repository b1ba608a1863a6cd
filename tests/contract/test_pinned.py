"""A job runs the code that was there when it was submitted, whatever is uploaded afterwards under the same name."""

from __future__ import annotations

import socket
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from titan_sdk import InvalidJob, InvalidPipeline, JobStatus, TitanJob

# Slow: Jobs of both uploads run one after the other.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


class Gate:
    """A job's script that ends once the gate is open."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "open"
        self.text = f"import os, time\nwhile not os.path.exists({str(self._file)!r}): time.sleep(0.02)"
        self.script = folder / "gate.py"
        self.script.write_text(self.text)

    def open(self) -> None:
        self._file.touch()


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


@pytest.fixture
def put(api, tmp_path):
    """Uploads a project of one file under a name."""

    def upload(name, text):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "main.py").write_text(text)
        api.upload_project_folder(folder, name)

    return upload


@pytest.mark.parametrize("runtime", [True, False])
def test_an_archive_is_taken_as_it_was_at_submission(api, unique, gate, put, runtime):
    name, first, second = unique("project"), unique("gate"), unique("later")
    put(name, "print('first code')")
    jobs = [
        TitanJob(first, str(gate.script), runtime=runtime),
        TitanJob(second, f"{name}.zip/main.py", is_archive=True, runtime=runtime, parents=[first]),
    ]
    dag = api.submit_dag(unique("dag"), jobs)
    put(name, "print('second code')")
    gate.open()
    dag.wait(timeout=300)
    assert list(dag[second].follow_logs()) == ["first code"]


SERVER = """
import http.server
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{word}")
http.server.HTTPServer(("127.0.0.1", {port}), Hello).serve_forever()
"""


def test_a_service_too(api, unique, gate, put):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name, first, second = unique("project"), unique("gate"), unique("service")
    put(name, SERVER.format(word="first", port=port))
    service = TitanJob(second, f"{name}.zip/main.py", "SERVICE", is_archive=True, port=port, parents=[first])
    api.submit_dag(unique("dag"), [TitanJob(first, str(gate.script)), service])
    put(name, SERVER.format(word="second", port=port))
    gate.open()
    try:
        assert answer(port) == b"first"
    finally:
        api.stop_service(second)


def answer(port: int) -> bytes:
    deadline = time.monotonic() + 240
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as reply:
                return reply.read()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("project", ["true", "false"])
def test_a_refused_pipeline_changes_nothing_that_was_accepted(api, unique, gate, tmp_path, project):
    first, second = unique("gate"), unique("later")
    folder = tmp_path / "pipeline"
    folder.mkdir()
    (folder / "gate.py").write_text(gate.text)
    (folder / "later.py").write_text("print('first code')")
    (folder / "p.yaml").write_text(f"""
name: {unique("pipeline")}
project: {project}
jobs:
  - {{id: {first}, file: gate.py}}
  - {{id: {second}, file: later.py, depends_on: [{first}]}}
""")
    dag = api.submit_yaml(folder / "p.yaml")
    (folder / "later.py").write_text("print('second code')")
    with pytest.raises(InvalidPipeline, match="on this master from an earlier submission"):
        api.submit_yaml(folder / "p.yaml")
    gate.open()
    dag.wait(timeout=300)
    assert dag[second].logs() == "first code\n"


@pytest.mark.parametrize("runtime", [True, False])
def test_an_archive_that_is_not_there_or_is_none_is_refused(api, unique, tmp_path, runtime):
    name = f"{unique('absent')}.zip"
    job = TitanJob(unique("broken"), f"{name}/main.py", is_archive=True, runtime=runtime)
    with pytest.raises(InvalidJob, match=f"has no uploaded file '{name}'; upload it first"):
        api.submit_job(job)
    (tmp_path / name).write_bytes(b"PK, but no zip")
    api.upload_file(tmp_path / name)
    with pytest.raises(InvalidJob, match="is not a whole zip; upload it again"):
        api.submit_job(job)
    assert api.get_job_status(job.job_id) is JobStatus.UNKNOWN


MAKER = """
import zipfile
from titan_sdk import TitanClient
with zipfile.ZipFile({name!r}, "w") as file:
    file.writestr("main.py", "print('made by a parent')")
with TitanClient() as client:
    client.upload_file({name!r})
"""


def test_an_archive_that_a_parent_uploads_is_taken_when_the_job_starts(api, unique, script):
    name, first, second = f"{unique('made')}.zip", unique("maker"), unique("user")
    maker = TitanJob(
        first, script(MAKER.format(name=name)), python=sys.executable, env={"PYTHONPATH": str(ROOT)}
    )
    user = TitanJob(second, f"{name}/main.py", is_archive=True, parents=[first])
    dag = api.submit_dag(unique("dag"), [maker, user])
    dag.wait(timeout=300)
    assert dag[second].logs() == "made by a parent\n"
