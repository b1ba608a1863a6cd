"""What inputs mean at the submit, on a real master and on a bundled one, and how a reference's file is fetched."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from tests.sdk.flows.test_archives import Bundled, Real
from tests.support.flow_runner import FlowRunner
from titan_sdk import ClientConfig, CorruptData, FileRef, InvalidJob, NotFound, NotSupported, TitanJob
from titan_sdk.flows.artifacts import delete_artifact, fetch_artifact, publish_artifact
from titan_sdk.flows.files import find_inputs
from titan_sdk.flows.submit import submit_dag
from titan_sdk.model.artifact import ArtifactRef
from titan_sdk.model.files import JobOutput
from titan_sdk.session import Session
from titan_sdk.wire.opcodes import Opcode

DATA = b"content"
SHA = hashlib.sha256(DATA).hexdigest()
REF = FileRef("run~a~b~c", len(DATA), SHA, "out/c")
TOLD = {"name": REF.name, "size": REF.size, "sha256": SHA, "path": "out/c"}


def session():
    return Session(ClientConfig())


def found(master, job, *others):
    jobs = (job, *others)
    return FlowRunner(master).run(find_inputs(session(), jobs, "f" * 16))[job.full_id]


def job(**fields):
    return TitanJob(fields.pop("job_id", "a"), source="pass", **fields)


@pytest.mark.parametrize("kind", [Real, Bundled])
def test_what_is_there_is_pinned(kind):
    master = kind()
    master.put("digits.zip", DATA)
    master.kv["data/digits"] = "digits.zip"
    told = found(master, job(inputs={"d/": "titan://data/digits", "x": REF, "y/": [REF]}))
    assert told == (
        {"to": "d/", "name": "digits.zip", "size": len(DATA), "sha256": SHA},
        {"to": "x", **TOLD},
        {"to": "y/", "files": [TOLD]},
    )


def test_a_key_may_stand_for_a_file_in_parts():
    master = Real()
    ref = FileRef("big", 9, SHA, parts=(SHA, SHA))
    master.kv["k"] = json.dumps(ref.to_json())
    assert found(master, job(inputs={"x": "titan://k"}))[0]["parts"] == [SHA, SHA]


@pytest.mark.parametrize("value", [None, "CLEARED"])
def test_what_is_not_there_is_refused_unless_a_parent_may_publish_it(value):
    master = Real()
    if value:
        master.kv["k"] = value
    with pytest.raises(InvalidJob, match="nothing is published as 'titan://k'; publish it first"):
        found(master, job(inputs={"x": "titan://k"}))
    assert found(master, job(inputs={"x": "titan://ä"}, parents=["b"])) == (
        {"to": "x", "uri": '~t1~"\\u00e4"'},
    )


@pytest.mark.parametrize("value", ['{"learning_rate": 0.1}', "{no json", "gone.csv"])
def test_a_key_that_stands_for_no_file_is_refused(value):
    master = Bundled()
    master.kv["k"] = value
    with pytest.raises(InvalidJob, match="job 'a': inputs: 'x': 'titan://k' stands for no file: "):
        found(master, job(inputs={"x": "titan://k"}))


def leave(master, full_id, nonce, **outputs):
    master.kv[f"titan:job:{full_id}"] = json.dumps({"nonce": nonce, "runtime": nonce is not None})
    if outputs:
        master.leave_success(full_id, nonce)
        key = f"titan:run:{full_id}:{nonce}:state"
        record = json.loads(master.kv[key])
        master.kv[key] = json.dumps(record | {"outputs": {k: v for k, v in outputs.items() if v}})


def test_what_a_parent_will_leave_is_found_when_the_job_starts():
    train = job(job_id="train", outputs={"m": "m"})
    child = job(inputs={"x": train.output["m"]})
    assert found(Real(), child, train) == ({"to": "x", "job": "DAG-train", "output": "m", "nonce": "f" * 16},)
    plain = TitanJob("train", source="pass", runtime=False)
    with pytest.raises(InvalidJob, match="job 'train' has no runtime, so it leaves no outputs"):
        found(Real(), child, plain)


def test_what_an_earlier_submission_has_left():
    child = job(inputs={"x/": JobOutput("train", "m")})
    with pytest.raises(InvalidJob, match="job 'train' has left no outputs that the master knows of"):
        found(Real(), child)
    master = Real()
    leave(master, "DAG-train", "e" * 16)
    assert found(master, child)[0] == {"to": "x/", "job": "DAG-train", "output": "m", "nonce": "e" * 16}
    leave(master, "DAG-train", "e" * 16, m=REF.to_json())
    assert found(master, child) == ({"to": "x/", **TOLD},)
    leave(master, "DAG-train", "e" * 16, m=[REF.to_json()])
    assert found(master, child) == ({"to": "x/", "files": [TOLD]},)
    leave(master, "DAG-train", "e" * 16, other=REF.to_json())
    with pytest.raises(InvalidJob, match="has left no output 'm'; it has 'other'"):
        found(master, child)
    leave(master, "DAG-train", "e" * 16, m=None)
    with pytest.raises(InvalidJob, match="it has none"):
        found(master, child)


def test_the_launcher_is_told():
    master = Bundled()
    FlowRunner(master).run(submit_dag(session(), "d", [job(inputs={"x": REF}, outputs={"o": "out/*"})]))
    assert "DAG-a" in master.status


def fetch(master, ref, target, **more):
    return FlowRunner(master).run(fetch_artifact(session(), ref, target, **more))


def test_a_file_in_parts_is_joined_and_checked(tmp_path):
    master, seen = Real(), []
    parts = (b"con", b"tent")
    ref = FileRef("big", 7, SHA, "deep/big.bin", parts=tuple(hashlib.sha256(p).hexdigest() for p in parts))
    master.put("big.1of2", parts[0])
    with pytest.raises(NotFound, match=re.escape("its part 'big.2of2' is gone")):
        fetch(master, ref, tmp_path / "x")
    master.put("big.2of2", parts[1])
    saved = fetch(master, ref, tmp_path / "a" / "x", progress=lambda done, size: seen.append((done, size)))
    assert saved.read_bytes() == DATA
    assert seen == [(3, 7), (7, 7)]
    assert fetch(master, ref.to_json(), tmp_path / "y").read_bytes() == DATA
    master.put("big.2of2", b"TENT")
    with pytest.raises(CorruptData, match="holds something else under that name than was meant"):
        fetch(master, ref, tmp_path / "z")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "y"]


def test_a_file_gets_the_name_that_the_job_gave_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    master = Real()
    master.put(REF.name, DATA)
    assert fetch(master, REF, None).name == "c"
    assert fetch(master, FileRef(REF.name, 7, SHA), None).name == REF.name


def test_removing_all_parts():
    class Deleting(Bundled):
        def __call__(self, call):
            if call.opcode is Opcode.ASSET_DELETE:
                gone = self.assets.pop(json.loads(call.payload)["name"], None)
                return json.dumps({"deleted": gone is not None})
            return super().__call__(call)

    master = Deleting()
    with pytest.raises(NotSupported, match=r"delete_artifact: the .* has no such operation"):
        FlowRunner(master).run(delete_artifact(session(), "big"))
    master.features.append("asset_delete")
    master.put("big.2of2", b"x")
    ref = FileRef("big", 1, SHA, parts=(SHA, SHA))
    assert FlowRunner(master).run(delete_artifact(session(), ref)) is True
    assert FlowRunner(master).run(delete_artifact(session(), ref.to_json())) is False
    master.put("up.csv", b"x")
    assert FlowRunner(master).run(delete_artifact(session(), ArtifactRef("up.csv", 1, SHA))) is True


def test_what_an_upload_returned_and_what_a_folder_is_published_as(tmp_path):
    master = Real()
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "a.csv").write_text("1")
    ref = FlowRunner(master).run(publish_artifact(session(), "k", folder))
    assert (ref.name, master.kv["k"]) == ("digits.zip", "digits.zip")
    assert fetch(master, ref, tmp_path / "x").read_bytes() == master.has("digits.zip")
