"""A job's files: inputs in place before it starts, outputs as artifacts of its run, on every kind of master."""

from __future__ import annotations

import hashlib
import os

import pytest

from titan_sdk import CorruptData, InvalidJob, JobStatus, NotFound, NotSupported, TitanJob

WRITES = """
import os, titan_job
os.makedirs("out/deep")
with open("out/model.pt", "wb") as file:
    file.write(b"m" * %d)
for name in "ab":
    with open("out/%%s.png" %% name, "w") as file:
        file.write(name)
open("out/deep/x", "w").write("x")
titan_job.result({"fine": True})
"""
OUTPUTS = {"model": "out/model.pt", "plots": "out/*.png", "all": "out/"}
READS = """
import os, titan_job
found = {}
for folder, _, names in os.walk("."):
    for name in names:
        path = os.path.join(folder, name)
        found[os.path.relpath(path)] = os.path.getsize(path)
titan_job.result(found)
"""


def ended(handle):
    return handle.wait(timeout=300, raise_on_failure=False)


def test_what_a_job_leaves_is_what_the_next_one_finds(api, unique, tmp_path):
    size = 8_000_000  # over the packet limit of a real master
    train = TitanJob(unique("train"), source=WRITES % size, outputs=OUTPUTS)
    inputs = {
        "model.pt": train.output["model"],
        "plots/": train.output["plots"],
        "data/": train.output["all"],
    }
    evaluate = TitanJob(unique("evaluate"), source=READS, inputs=inputs)
    assert evaluate.parents == (train.job_id,)
    report = api.submit_dag(unique("dag"), [train, evaluate]).wait(timeout=300)
    left, found = report[train.job_id], report[evaluate.job_id].result
    assert found == {
        "model.pt": size,
        "plots/a.png": 1,
        "plots/b.png": 1,
        "data/model.pt": size,
        "data/a.png": 1,
        "data/b.png": 1,
        "data/deep/x": 1,
    }
    assert left.result == {"fine": True}
    model, plots = left.outputs["model"], left.outputs["plots"]
    content = b"m" * size
    assert (model.size, model.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert (model.path, [plot.path for plot in plots]) == ("out/model.pt", ["out/a.png", "out/b.png"])
    assert left.outputs["all"].is_folder
    assert api.fetch_artifact(model, tmp_path / "deep" / "model.pt").read_bytes() == content
    # As an XCom has it.
    assert api.fetch_artifact(plots[1].to_json(), tmp_path / "b.png").read_text() == "b"
    again = TitanJob(
        unique("again"), source=READS, inputs={"m": model, "p/": plots, "q/r": plots[0].to_json()}
    )
    assert ended(api.submit_job(again)).result == {"m": size, "p/a.png": 1, "p/b.png": 1, "q/r": 1}


def test_an_output_of_an_earlier_submission(api, unique):
    train = TitanJob(unique("train"), source=WRITES % 10, outputs=OUTPUTS)
    assert ended(api.submit_job(train)).state is JobStatus.COMPLETED
    inputs = {"m": train.output["model"], "p/": train.output["plots"]}
    report = ended(api.submit_job(TitanJob(unique("next"), source=READS, inputs=inputs)))
    assert report.result == {"m": 10, "p/a.png": 1, "p/b.png": 1}
    wrong = TitanJob(unique("next"), source=READS, inputs={"m": train.output["modle"]})
    with pytest.raises(InvalidJob, match=r"has left no output 'modle'; it has .*'model', 'plots'"):
        api.submit_job(wrong)


def test_two_runs_of_one_name_do_not_share_files(api, unique):
    name, source = unique("twice"), "import titan_job; open('f', 'w').write(titan_job.params)"
    first = ended(api.submit_job(TitanJob(name, source=source, params="one", outputs={"f": "f"})))
    second = ended(api.submit_job(TitanJob(name, source=source, params="three", outputs={"f": "f"})))
    sizes = [report.outputs["f"].size for report in (first, second)]
    assert sizes == [3, 5]
    got = TitanJob(unique("reads"), source=READS, inputs={"f": first.outputs["f"]})
    assert ended(api.submit_job(got)).result == {"f": 3}


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        (
            {"m": "out/model.pt"},
            r"its output 'm' is missing: there is no 'out/model.pt' in \S+/out, which holds deep/, other",
        ),
        ({"m": "gone/model.pt"}, r"there is no 'gone/model.pt' in \S+, which holds out/"),
        ({"m": "out/*.pt"}, r"nothing matches 'out/\*.pt' in \S+/out, which holds"),
    ],
)
def test_a_missing_output_fails_the_job_and_says_what_is_there(api, unique, outputs, sentence):
    source = "import os; os.makedirs('out/deep'); open('out/other', 'w')"
    report = ended(api.submit_job(TitanJob(unique("lacks"), source=source, outputs=outputs)))
    assert report.state is JobStatus.DEAD
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(report.describe())
    assert report.outputs == {}


def test_a_published_dataset_is_named_by_its_key(api, unique, tmp_path):
    key, folder = f"datasets/{unique('digits')}", tmp_path / unique("digits")
    folder.mkdir()
    (folder / "train.csv").write_text("1,2")
    with pytest.raises(InvalidJob, match=f"nothing is published as 'titan://{key}'; publish it first"):
        api.submit_job(TitanJob(unique("reads"), source=READS, inputs={"data/": f"titan://{key}"}))
    api.publish_artifact(key, folder)
    report = ended(
        api.submit_job(TitanJob(unique("reads"), source=READS, inputs={"data/": f"titan://{key}"}))
    )
    assert report.result == {"data/train.csv": 3}


@pytest.mark.parametrize("value", ['{"learning_rate": 0.1}', "{no json", "no-such-artifact"])
def test_a_key_that_stands_for_no_file_is_refused(api, unique, value):
    key = unique("setting")
    api.store_put(key, value)
    with pytest.raises(InvalidJob, match=f"inputs: 'x': 'titan://{key}' stands for no file: "):
        api.submit_job(TitanJob(unique("reads"), source=READS, inputs={"x": f"titan://{key}"}))


def test_a_parent_may_publish_what_its_child_is_to_find(api, unique):
    key = unique("modèle|1")
    source = "import titan_job; open('m', 'w').write('four'); titan_job.result(titan_job.publish('m', key=titan_job.params))"
    first = TitanJob(unique("publishes"), source=source, params=key, outputs={"unused": "m"})
    reads = TitanJob(unique("reads"), source=READS, parents=[first.job_id], inputs={"m": f"titan://{key}"})
    report = api.submit_dag(unique("dag"), [first, reads]).wait(timeout=300)
    assert report[reads.job_id].result == {"m": 4}
    assert report[first.job_id].outputs["m"].to_json() == report[first.job_id].result


def test_what_a_job_published_stays_when_it_fails(api, unique, tmp_path):
    source = """
import sys, titan_job
open("loss.txt", "w").write("0.5")
titan_job.publish("loss.txt", name="loss")
sys.exit(3)
"""
    report = ended(api.submit_job(TitanJob(unique("fails"), source=source)))
    assert report.exit_code == 3
    assert api.fetch_artifact(report.outputs["loss"], tmp_path / "loss").read_text() == "0.5"


def test_an_input_that_was_replaced_since_is_not_taken_for_what_was_meant(api, unique, tmp_path):
    path = tmp_path / unique("rows.csv")
    path.write_text("first")
    ref = api.upload_file(path)
    path.write_text("second, and longer")
    api.upload_file(path)
    report = ended(api.submit_job(TitanJob(unique("reads"), source=READS, inputs={"rows.csv": ref})))
    assert report.state is JobStatus.DEAD
    assert "its input 'rows.csv' cannot be put in place" in (report.reason or "")
    with pytest.raises((CorruptData, NotFound)):
        api.fetch_artifact({"name": ref.name, "size": ref.bytes, "sha256": ref.sha256}, tmp_path / "copy")


def test_an_artifact_can_be_removed_where_the_master_can_forget(api, unique, tmp_path, capabilities):
    path = tmp_path / unique("old.bin")
    path.write_bytes(os.urandom(10))
    ref = api.upload_file(path)
    if "asset_delete" not in capabilities:
        with pytest.raises(NotSupported, match="an upload under the same name replaces it"):
            api.delete_artifact(ref)
        return
    assert api.delete_artifact(ref.name) is True
    assert api.delete_artifact(ref) is False
    with pytest.raises(NotFound):
        api.fetch_artifact(ref.name, tmp_path / "copy")


def test_the_folder_of_a_job_with_files_is_its_own(api, unique):
    source = "import os, titan_job; open('mine', 'w'); titan_job.result([os.getcwd(), os.environ['TITAN_JOB_DIR']])"
    reports = [
        ended(api.submit_job(TitanJob(unique("own"), source=source, outputs={"f": "mine"}))) for _ in range(2)
    ]
    folders = [report.result[0] for report in reports]
    assert folders[0] != folders[1]
    assert all(folder.startswith(report.result[1]) for folder, report in zip(folders, reports, strict=True))
