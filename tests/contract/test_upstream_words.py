"""Programs written for upstream's SDK compare what its methods return; here the typed values equal those words."""

from __future__ import annotations

import pickle

import pytest

from titan_sdk import TitanJob


def test_what_succeeded_is_upstreams_word(api, unique, script, tmp_path):
    path = tmp_path / f"{unique('file')}.txt"
    path.write_text("content")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "main.py").write_text("pass")
    key = unique("key")
    assert api.store_put(key, "value") == "OK"
    uploaded = api.upload_file(path)
    assert uploaded == "UPLOAD_SUCCESS"
    assert "ERROR" not in uploaded
    assert f"{uploaded}" == "UPLOAD_SUCCESS"
    assert (uploaded.name, uploaded.bytes) == (path.name, 7)
    assert api.upload_project_folder(tmp_path / "project", unique("project")) == "UPLOAD_SUCCESS"
    assert api.publish_artifact(key, path)
    assert api.get_artifact(key, tmp_path / "copy.txt")
    assert api.fetch_artifact(path.name, tmp_path / "copy.txt")
    assert "SUCCESS" in api.deploy_script(path)
    copied = pickle.loads(pickle.dumps(uploaded))
    assert (copied, copied.sha256, repr(copied)) == (uploaded, uploaded.sha256, repr(uploaded))


def test_a_submit_is_dag_accepted_and_each_is_itself(client, unique, script):
    source = script("pass")
    one, two = (client.submit_job(TitanJob(unique("job"), source)) for _ in range(2))
    dag = client.submit_dag(unique("dag"), [TitanJob(unique("job"), source)])
    for accepted in (one, two, dag):
        assert accepted == "DAG_ACCEPTED"
        assert "ACCEPTED" in accepted
        assert "ERROR" not in accepted
    assert one != two
    assert len({one, two, dag}) == 3


@pytest.mark.parametrize(
    ("code", "timeout", "completed"),
    [("pass", 60, True), ("raise SystemExit(1)", 60, False), ("import time; time.sleep(60)", 0.5, False)],
)
def test_submit_yaml_waits_where_it_is_told_to(api, unique, tmp_path, code, timeout, completed):
    (tmp_path / "a.py").write_text(code)
    job_id = unique("job")
    (tmp_path / "p.yaml").write_text(f"name: {unique('pipe')}\njobs: [{{id: {job_id}, file: a.py}}]\n")
    dag = api.submit_yaml(tmp_path / "p.yaml", None, True, poll_interval=1, timeout=timeout)
    assert bool(dag) is completed
    if timeout < 1:
        api.cancel_job(job_id)
