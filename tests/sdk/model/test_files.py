"""What may be a job's input or output, and what is refused before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from titan_sdk import FileRef, InvalidArgument, InvalidJob, TitanJob
from titan_sdk.model.artifact import ArtifactRef
from titan_sdk.model.files import JobOutput, renamed

REF = FileRef("run~a~b~c", 3, "0" * 64, "out/c")


def job(**fields):
    return TitanJob("a", source="pass", **fields)


def test_a_reference_survives_its_json_form():
    for ref in (REF, FileRef("n", 0, "a" * 64, is_folder=True, parts=("b" * 64, "c" * 64))):
        assert FileRef.from_json(ref.to_json()) == ref
    assert REF.to_json() == {
        "titan_file": 1,
        "name": "run~a~b~c",
        "size": 3,
        "sha256": "0" * 64,
        "path": "out/c",
    }
    assert FileRef("n", 0, "a" * 64, parts=("b" * 64, "c" * 64)).part_names == ("n.1of2", "n.2of2")
    assert REF.part_names == ("run~a~b~c",)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"name": "a", "size": 1},
        {"name": "", "size": 1, "sha256": "0" * 64},
        {"name": "a", "size": -1, "sha256": "0" * 64},
        {"name": "a", "size": True, "sha256": "0" * 64},
        {"name": "a", "size": 1, "sha256": "short"},
        {"name": 7, "size": 1, "sha256": "0" * 64},
        {"name": "a", "size": 1, "sha256": "0" * 64, "parts": ["x"]},
        {"name": "a", "size": 1, "sha256": "0" * 64, "parts": 3},
        ["name"],
    ],
)
def test_what_is_no_reference(value):
    with pytest.raises(InvalidArgument, match="is no reference of a file"):
        FileRef.from_json(value)


def test_each_form_of_an_input():
    made = job(
        inputs={
            Path("a"): REF,
            "b": REF.to_json(),
            "c": ArtifactRef("up.csv", 3, "1" * 64),
            "d/": [REF, REF.to_json()],
            "e": "titan://datasets/digits",
            "f": JobOutput("before", "model"),
        },
        parents=["first"],
    )
    assert made.inputs == {
        "a": REF,
        "b": REF,
        "c": FileRef("up.csv", 3, "1" * 64),
        "d/": (REF, REF),
        "e": "titan://datasets/digits",
        "f": JobOutput("before", "model"),
    }
    assert made.parents == ("first", "before")
    assert job(inputs={"f": JobOutput("DAG-before", "m")}, parents=["before"]).parents == ("before",)
    assert renamed(made.inputs, {"before": "later"}.get)["f"] == JobOutput("later", "model")


def test_what_a_job_will_leave():
    made = job(outputs={"model": Path("out/m.pt"), "plots": "/scratch/*.png"})
    assert made.outputs == {"model": "out/m.pt", "plots": "/scratch/*.png"}
    assert made.output["model"] == JobOutput("a", "model")
    assert (list(made.output), len(made.output)) == (["model", "plots"], 2)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"inputs": ["a"]}, r"inputs: \['a'\] is not a mapping of paths to files"),
        ({"inputs": {"../a": REF}}, r"inputs: '../a' leads out of the folder in which the job runs"),
        ({"inputs": {"/etc/a": REF}}, r"inputs: '/etc/a' leads out"),
        ({"inputs": {"/": REF}}, r"inputs: '/' is not the path of a file"),
        ({"inputs": {3: REF}}, r"inputs: 3 is not the path of a file"),
        ({"inputs": {"a/.": REF}}, r"inputs: 'a/.' is a folder; end it with '/'"),
        ({"inputs": {"a": REF, ".//a": REF}}, r"inputs: 'a' and './/a' are the same place"),
        (
            {"inputs": {"a/": [REF, replace(REF, sha256="2" * 64)]}},
            r"inputs: 'a/': several of its files are called '\S+', and each keeps its base",
        ),
        (
            {"inputs": {"a": "data.csv"}},
            r"inputs: 'a': 'data.csv' does not begin with titan://; publish the file first",
        ),
        ({"inputs": {"a": "titan://"}}, r"does not begin with titan://"),
        ({"inputs": {"a": {"name": "x"}}}, r"inputs: 'a': \{'name': 'x'\} is no reference of a file"),
        ({"inputs": {"a": [REF]}}, r"'a' stands for several files; give a folder, which ends with '/'"),
        ({"inputs": {"a/": [REF, "titan://x"]}}, r"'a/': .* is no reference of a file"),
        ({"inputs": {"a": b"bytes"}}, r"'a': b'bytes' is no reference of a file"),
        ({"inputs": {"a": None}}, r"'a': None is no reference of a file"),
        ({"inputs": {"a": "x" * 300}}, r"'x{199}\.\.\. does not begin"),
        ({"outputs": "out/a"}, r"outputs: 'out/a' is not a mapping of names to paths"),
        ({"outputs": {"a b": "a"}}, r"outputs: the name 'a b' is not 1 to 40 letters"),
        ({"outputs": {"a": ""}}, r"outputs: 'a': '' is not the path of a file"),
        ({"outputs": {"a": "../b"}}, r"outputs: 'a': '../b' leads out"),
        ({"outputs": {"a": "b"}, "runtime": False}, r"outputs .* needs the runtime"),
        ({"inputs": {"a": REF}, "runtime": False}, r"inputs .* needs the runtime"),
    ],
)
def test_what_is_refused(fields, sentence):
    with pytest.raises(InvalidJob, match=sentence):
        job(**fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"checkpoint_key": ""}, "checkpoint_key '' is not a text that names something"),
        ({"checkpoint_key": 7}, "checkpoint_key 7 is not a text"),
        ({"checkpoint_key": "a\0b"}, r"checkpoint_key .* contains a NUL character"),
        ({"keep_checkpoint": "yes"}, "keep_checkpoint 'yes' is neither True nor False"),
        ({"checkpoint_key": "k", "runtime": False}, "checkpoint_key 'k' needs the runtime"),
        ({"keep_checkpoint": True, "runtime": False}, "keep_checkpoint True needs the runtime"),
    ],
)
def test_what_is_no_checkpoint(fields, sentence):
    with pytest.raises(InvalidJob, match=sentence):
        job(**fields)
