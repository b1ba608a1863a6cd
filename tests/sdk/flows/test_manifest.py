"""DAGs found by name: the latest run or a given one; what cannot be read is not guessed."""

from __future__ import annotations

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import CorruptData, NotFound
from titan_sdk.flows.manifest import Submission, SubmittedJob, find_dag, write_records


def test_each_run_is_found_and_the_latest_by_default():
    runner = FlowRunner(MasterModel())
    for run in ("r1", "r2"):
        jobs = (SubmittedJob("a", None), SubmittedJob("b", "0" * 16, ("DAG-a",), "b-first"))
        runner.run(write_records(Submission("my:dag%", run, jobs)))
    assert runner.run(find_dag("my:dag%")).run_id == "r2"
    first = runner.run(find_dag("my:dag%", "r1"))
    assert (first.run_id, first.jobs) == ("r1", jobs)
    with pytest.raises(NotFound, match="Follow other DAGs by their job ids"):
        runner.run(find_dag("my"))


@pytest.mark.parametrize(
    ("latest", "manifest", "sentence"),
    [
        ("no json", "{}", "which is not JSON"),
        ("[1]", "{}", "which is not a JSON object"),
        ('{"run":"r"}', "{}", "the manifest of DAG 'd', run 'r', cannot be read"),
        ('{"run":"r"}', '{"jobs":[3]}', "cannot be read"),
        ('{"run":"r"}', '{"jobs":[{"id":"a"}]}', "cannot be read"),
    ],
)
def test_a_broken_manifest_is_an_error(latest, manifest, sentence):
    master = MasterModel()
    master.kv = {"titan:dag:d": latest, "titan:dag:d:r": manifest}
    with pytest.raises(CorruptData, match=sentence):
        FlowRunner(master).run(find_dag("d"))
