"""DAGs: order, dependencies, failure and discovery."""

from __future__ import annotations

import time

import pytest

from titan_sdk import DagFailed, InvalidDag, JobStatus, NotFound, TitanJob

APPEND = "import sys\nwith open(sys.argv[1], 'a') as f: f.write(sys.argv[2] + '\\n')"


def test_children_run_after_their_parents(api, unique, script, tmp_path):
    trace, source, run = tmp_path / "trace", script(APPEND), unique("d")
    ids = {name: f"{run}-{name}" for name in "abcd"}
    jobs = [
        TitanJob(ids["d"], source, args=[str(trace), "d"], parents=[ids["b"], ids["c"], ids["b"]]),
        TitanJob(ids["a"], source, args=[str(trace), "a"]),
        TitanJob(ids["b"], source, args=[str(trace), "b"], parents=[ids["a"]]),
        TitanJob(ids["c"], source, args=[str(trace), "c"], parents=["DAG-" + ids["a"]], requirement="GPU"),
    ]
    dag = api.submit_dag(run, jobs)
    report = dag.wait(timeout=300)
    assert report.state is JobStatus.COMPLETED
    assert [r.job_id for r in report.jobs] == [job.job_id for job in jobs]
    lines = trace.read_text().split()
    assert (lines[0], lines[-1], sorted(lines)) == ("a", "d", ["a", "b", "c", "d"])


def test_results_flow_from_job_to_job(api, unique, script):
    run = unique("flow")
    first, second = f"{run}-extract", f"{run}-train"
    jobs = [
        TitanJob(first, script("import titan_job; titan_job.result([1, 2])", "extract.py"), priority=5),
        TitanJob(
            second,
            script("import titan_job; titan_job.result('ok')", "train.py"),
            requirement="GPU",
            parents=[first],
        ),
    ]
    dag = api.submit_dag(run, jobs)
    dag.wait(timeout=300)
    assert (dag.result(first), dag.result(second)) == ([1, 2], "ok")


def test_what_waits_for_a_failed_job_is_reported_as_never_running(api, unique, script):
    run = unique("broken")
    jobs = [
        TitanJob(f"{run}-root", script("raise SystemExit(7)", "root.py")),
        TitanJob(f"{run}-child", script("print('never')", "child.py"), parents=[f"{run}-root"]),
        TitanJob(f"{run}-grandchild", script("pass", "grand.py"), parents=[f"{run}-child"]),
        TitanJob(f"{run}-other", script("pass", "other.py")),
    ]
    dag = api.submit_dag(run, jobs)
    with pytest.raises(
        DagFailed, match=rf"DAG '{run}' failed: job '{run}-root' failed with exit code 7"
    ) as failure:
        dag.wait(timeout=300)
    report = failure.value.dag_report
    assert report[f"{run}-child"].upstream_failed == (f"{run}-root",)
    assert report[f"{run}-grandchild"].upstream_failed == (f"{run}-root",)
    assert report[f"{run}-other"].state is JobStatus.COMPLETED
    assert "never\n" not in dag["DAG-" + f"{run}-child"].logs()


def test_a_dag_is_found_again_by_name(api, unique, script):
    run = unique("named")
    submitted = api.submit_dag(run, [TitanJob(f"{run}-only", script("print('x')"))])
    found = api.find_dag(run)
    assert found.run_id == submitted.run_id
    assert found.wait(timeout=300)[f"{run}-only"].exit_code == 0
    with pytest.raises(NotFound, match="TitanStore has no manifest"):
        api.find_dag(unique("nobody"))


def test_cancelling_a_dag_leaves_nothing_to_run(api, unique, script, tmp_path):
    run, trace = unique("stopped"), tmp_path / "trace"
    jobs = [
        TitanJob(f"{run}-long", script("import time; time.sleep(600)", "long.py")),
        TitanJob(f"{run}-next", script(APPEND, "next.py"), args=[str(trace), "x"], parents=[f"{run}-long"]),
    ]
    dag = api.submit_dag(run, jobs)
    states = dag.cancel()
    assert set(states.values()) == {JobStatus.CANCELLED}
    assert dag.status() is JobStatus.CANCELLED
    assert not trace.exists()


def test_affinity_sends_a_child_to_its_parents_worker(api, unique, script):
    run = unique("near")
    source = script("import os, titan_job; titan_job.result(os.getcwd())")
    jobs = [TitanJob(f"{run}-0", source, requirement="GENERAL")]
    jobs += [TitanJob(f"{run}-{i}", source, parents=[f"{run}-{i - 1}"], affinity=True) for i in range(1, 4)]
    dag = api.submit_dag(run, jobs)
    dag.wait(timeout=300)
    assert len({dag.result(job.job_id) for job in jobs}) == 1


def test_a_delay_is_respected(api, unique, script):
    run, before = unique("later"), time.time()
    source = script("import time, titan_job; titan_job.result(time.time())")
    dag = api.submit_dag(run, [TitanJob(f"{run}-now", source), TitanJob(f"{run}-late", source, delay=1500)])
    dag.wait(timeout=300)
    # Not from the other one's start, which may be late by itself.
    assert dag.result(f"{run}-late") - before > 1.4


@pytest.mark.parametrize(
    ("edges", "sentence"),
    [
        ({"a": ["b"], "b": ["a"]}, "has a cycle: "),
        ({"a": ["a"]}, "has a cycle: "),
        ({"a": [], "b": ["missing-parent-zz"]}, "neither in this DAG nor known to the master"),
    ],
    ids=["cycle", "self", "unknown parent"],
)
def test_a_dag_that_cannot_run_is_refused(api, unique, script, edges, sentence):
    run, source = unique("bad"), script("pass")
    jobs = [
        TitanJob(f"{run}-{name}", source, parents=[f"{run}-{p}" for p in ps]) for name, ps in edges.items()
    ]
    with pytest.raises(InvalidDag, match=sentence):
        api.submit_dag(run, jobs)
    assert {api.get_job_status(job.job_id) for job in jobs} == {JobStatus.UNKNOWN}


def test_the_same_id_twice_is_refused(api, unique, script):
    run, source = unique("twice"), script("pass")
    with pytest.raises(InvalidDag, match="is used twice"):
        api.submit_dag(run, [TitanJob(run, source), TitanJob(f"DAG-{run}", source)])


def test_an_empty_dag_is_refused(api, unique):
    with pytest.raises(InvalidDag, match="has no jobs"):
        api.submit_dag(unique("empty"), [])


def test_a_parent_of_an_earlier_submission_counts(api, unique, script):
    parent = api.submit_job(TitanJob(unique("before"), script("pass")))
    parent.wait(timeout=300)
    child = api.submit_job(
        TitanJob(unique("after"), script("print('ran')"), parents=[parent.job_id], affinity=True)
    )
    assert child.wait(timeout=300).state is JobStatus.COMPLETED
