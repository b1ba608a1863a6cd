"""The upstream SDK, unmodified, works against the bundled master. By hand: `pytest tests/upstream --upstream PATH`.

Its package has our package's name, so each test is a process of its own with the checkout first on its path.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

# Slow: Needs a checkout of upstream's project.
pytestmark = [pytest.mark.upstream, pytest.mark.slow]

PRELUDE = """
import os, sys, time, uuid
sys.path.insert(0, {path!r})
from titan_sdk import TitanClient, TitanJob
import titan_sdk
assert titan_sdk.__file__.startswith({path!r}), titan_sdk.__file__
client = TitanClient()
def until(job_id, *words):
    for _ in range(600):
        status = client.get_job_status(job_id)
        if status in words:
            return status
        time.sleep(0.05)
    raise SystemExit(f"{{job_id}} stayed {{status}}")
def script(name, text):
    with open(name, "w") as file:
        file.write(text)
    return name
unique = uuid.uuid4().hex[:8]
"""


@pytest.fixture
def upstream(upstream_path: Path, cluster, tmp_path: Path):
    def run(body: str) -> str:
        env = {**os.environ, "TITAN_HOST": cluster.host, "TITAN_PORT": str(cluster.port)}
        code = PRELUDE.format(path=str(upstream_path)) + body
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_job_runs_with_its_arguments_and_its_log_comes_back(upstream):
    out = upstream("""
path = script("hello.py", "import sys; print('hello', sys.argv[1:])")
assert client.submit_job(TitanJob(f"one-{unique}", path, args="a b")) == "DAG_ACCEPTED"
assert until(f"DAG-one-{unique}", "COMPLETED", "DEAD") == "COMPLETED"
print("LOG", client.fetch_logs(f"DAG-one-{unique}"))
""")
    assert "LOG hello ['a', 'b']" in out


def test_a_dag_runs_in_order_on_the_workers_it_asks_for(upstream):
    out = upstream("""
first = script("extract.py", "open('order.txt', 'a').write('extract ')")
second = script("train.py", "print('trained')")
jobs = [
    TitanJob(f"extract-{unique}", first, priority=5),
    TitanJob(f"train-{unique}", second, requirement="GPU", parents=[f"extract-{unique}"]),
    TitanJob(f"near-{unique}", first, parents=[f"extract-{unique}"], affinity=True),
]
assert client.submit_dag("nightly", jobs) == "DAG_ACCEPTED"
for job in jobs:
    assert until(f"DAG-{job.id}", "COMPLETED", "DEAD") == "COMPLETED", job.id
print("DONE")
""")
    assert "DONE" in out


def test_a_failing_job_is_dead_after_four_runs(upstream):
    out = upstream("""
path = script("fails.py", "print('run'); raise SystemExit(1)")
client.submit_job(TitanJob(f"fails-{unique}", path))
assert until(f"DAG-fails-{unique}", "COMPLETED", "DEAD") == "DEAD"
print("RUNS", client.fetch_logs(f"DAG-fails-{unique}").count("run"))
""")
    assert "RUNS 4" in out


def test_a_service_is_deployed_and_stopped(upstream):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = upstream(f"""
path = script("server.py", '''
import socket
listener = socket.create_server(("127.0.0.1", {port}))
while True:
    listener.accept()[0].close()
''')
client.submit_job(TitanJob(f"svc-{{unique}}", path, job_type="SERVICE", port={port}))
assert until(f"DAG-svc-{{unique}}", "COMPLETED", "DEAD") == "COMPLETED"
print(client.stop_service(f"svc-{{unique}}"))
""")
    assert "STOPPED: DAG-svc-" in out


def test_files_travel_both_ways_and_a_project_runs(upstream):
    out = upstream("""
path = script(f"data-{unique}.txt", "content")
assert client.upload_file(path) == "UPLOAD_SUCCESS"
assert client.fetch_artifact(path, save_path="copy.txt") is True
assert open("copy.txt").read() == "content"
assert client.publish_artifact(f"key-{unique}", path) is True
assert client.get_artifact(f"key-{unique}", save_path="copy2.txt") is True
assert client.deploy_script(path) == "DEPLOY_SUCCESS"
os.mkdir("project")
script("project/main.py", "print('from the project')")
assert client.upload_project_folder("project", f"project{unique}") == "UPLOAD_SUCCESS"
client.submit_job(TitanJob(f"zip-{unique}", f"project{unique}.zip/main.py", is_archive=True))
assert until(f"DAG-zip-{unique}", "COMPLETED", "DEAD") == "COMPLETED"
print("LOG", client.fetch_logs(f"DAG-zip-{unique}"))
""")
    assert "LOG from the project" in out


def test_the_store_keeps_values_and_sets(upstream):
    out = upstream("""
key = f"key-{unique}"
assert client.store_put(key, "98.5") == "OK"
assert client.store_get(key) == "98.5"
client.store_put(key, "Ångström — 量子")
assert client.store_get(key) == "Ångström — 量子"
assert client.store_get("absent-" + unique) == "NULL"
assert client.store_sadd("set-" + unique, "batch_A.csv") == 1
assert client.store_sadd("set-" + unique, "batch_A.csv") == 0
assert client.store_smembers("set-" + unique) == ["batch_A.csv"]
print("STORED")
""")
    assert "STORED" in out


def test_values_pass_between_the_two_sdks(upstream, client):
    client.store_put("from-ours", "plain text")
    client.store_sadd("set-from-ours", "member")
    upstream("""
assert client.store_get("from-ours") == "plain text"
assert client.store_smembers("set-from-ours") == ["member"]
client.store_put("from-theirs", "pipes|and;more")
""")
    assert client.store_get("from-theirs") == "pipes|and;more"


def test_their_map_reduce_example_runs(upstream, upstream_path):
    """Files beside ``__file__``, written and read by several jobs, two of them at a time and of one script."""
    folder = upstream_path / "perm_files" / "pytests" / "static_dag_tests"
    out = upstream(f"""
folder = {str(folder)!r}
def job(name, script, args, *parents):
    return TitanJob(f"{{name}}-{{unique}}", f"{{folder}}/{{script}}.py", args=args, parents=[f"DAG-{{p}}-{{unique}}" for p in parents])
client.submit_dag("MapReduce_Test", [
    job("gen", "generator", "chunk_a.txt chunk_b.txt"),
    job("a", "mapper", "chunk_a.txt out_a.txt", "gen"),
    job("b", "mapper", "chunk_b.txt out_b.txt", "gen"),
    job("reduce", "reducer", "final_report.txt out_a.txt out_b.txt", "a", "b"),
])
assert until(f"DAG-reduce-{{unique}}", "COMPLETED", "DEAD") == "COMPLETED"
print("LOG", client.fetch_logs(f"DAG-reduce-{{unique}}"))
""")
    assert "LOG" in out
    assert "Could not find" not in out
    print(out)
