"""TitanDagOperator in a real Airflow, on a real master."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_run import Outcome
from titan_provider.exceptions import TitanDagFailed, TitanPlacementTimedOut
from titan_provider.hooks.titan import TitanHook
from titan_provider.operators.dag import TitanDagOperator
from titan_sdk import JobStatus, TitanClient, TitanJob

# Slow: Tasks of several jobs in a real Airflow, with their time-outs.
pytestmark = [pytest.mark.airflow, pytest.mark.slow]

RunDag = Callable[..., Outcome]
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferrable"])


@pytest.fixture
def run(run_dag: RunDag) -> RunDag:
    """Run one TitanDagOperator, called `work`, with these jobs."""

    def run(jobs: list[dict[str, Any]], **options: Any) -> Outcome:
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        return run_dag(f"""
            from titan_provider.operators.dag import TitanDagOperator
            TitanDagOperator(task_id="work", jobs={jobs!r}{given})
        """)

    return run


def result(value: str) -> str:
    return f"import titan_job, os\nprint('working')\ntitan_job.result({value})"


@BOTH
def test_jobs_run_by_their_parents_and_results_come_by_name(run: RunDag, deferrable: bool) -> None:
    done = run(
        [
            {
                "job_id": "evaluate",
                "script": result("[os.environ['TITAN_WORKER'], titan_job.params]"),
                "parents": ["train"],
                "affinity": True,
                "requirement": "GPU",
                "params": {"run": ["{{ run_id }}"]},
            },
            {
                "job_id": "train",
                "script": result("[os.environ['TITAN_WORKER'], os.environ['WHO']]"),
                "parents": ["prepare"],
                "requirement": "GPU",
                "env": {"WHO": "{{ task.task_id }}"},
            },
            {"name": "prepare", "script": "#!/bin/sh\npython3 -m titan_job result '{\"rows\": 3}'"},
            {"job_id": "quiet", "script": "print(1)"},
        ],
        deferrable=deferrable,
    )
    assert done.state == "success", done.errors
    assert done.xcom("work") == {
        "evaluate": ["GPU-1", {"run": [done.run.run_id]}],
        "train": ["GPU-1", "work"],
        "prepare": {"rows": 3},
        "quiet": None,
    }
    ids = done.xcom("work", "titan_job_ids")
    assert list(ids) == ["evaluate", "train", "prepare", "quiet"]
    assert ids["train"].startswith(f"{done.run.dag_id}.work.train.")


@BOTH
def test_each_jobs_log_is_a_group_and_each_line_comes_once(
    run: RunDag, deferrable: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    chatty = "for n in range(300):\n    print(f'<{name}-{n}>')\nprint('<{name}-end>', end='')"
    jobs = [{"job_id": name, "script": chatty.replace("{name}", name)} for name in ("a", "b", "c")]
    assert run(jobs, deferrable=deferrable).state == "success"
    out = capfd.readouterr().out
    lines = re.findall(r"<[abc]-\w+>|::group::Log of job [abc]|::endgroup::", out)
    for name in "abc":
        own = [line for line in lines if line.startswith(f"<{name}-")]
        assert own == [f"<{name}-{n}>" for n in range(300)] + [f"<{name}-end>"]
    inside = ""
    for line in lines:
        if line.startswith("::group::"):
            assert not inside
            inside = line[-1]
        elif line == "::endgroup::":
            inside = ""
        else:
            assert line[1] == inside
    assert re.search(r"job 'a' completed on worker \w+", out)


def test_a_long_job_is_heard_while_it_runs(run: RunDag, capfd: pytest.CaptureFixture[str]) -> None:
    script = "import time\nfor n in range(8):\n    print(f'<{n}>', flush=True); time.sleep(0.3)"
    assert run([{"job_id": "long", "script": script}], log_interval=0.5).state == "success"
    out = capfd.readouterr().out
    assert out.count("::group::Log of job long") >= 2
    assert re.findall(r"<\d>", out) == [f"<{n}>" for n in range(8)]


@BOTH
def test_a_failure_names_the_root_cause(run: RunDag, deferrable: bool) -> None:
    jobs = [
        {"job_id": "report", "script": "print(1)", "parents": ["train"]},
        {"job_id": "train", "script": "raise ValueError('no rows')", "parents": ["prepare"]},
        {"job_id": "prepare", "script": "print(1)"},
    ]
    done = run(jobs, deferrable=deferrable)
    assert done.tasks == {"work": "failed"}
    (error,) = done.errors
    assert isinstance(error, TitanDagFailed)
    text = str(error)
    assert re.match(
        r"2 of 3 jobs did not succeed: ValueError: no rows \(train\S*\.py, line 1\); job 'train' failed with exit",
        text,
    )
    assert "Traceback" not in text, "the task log has it already"
    assert text.endswith("Not run because of that: report")


@BOTH
def test_the_execution_timeout_ends_every_job(run_dag: RunDag, deferrable: bool, client: TitanClient) -> None:
    for seconds in (2, 10, 40):
        done = run_dag(f"""
            from titan_provider.operators.dag import TitanDagOperator
            TitanDagOperator(task_id="work", deferrable={deferrable}, execution_timeout=timedelta(seconds={seconds}), jobs=[
                {{"job_id": "long", "script": "import time; time.sleep(600)"}},
                {{"job_id": "after", "script": "print(1)", "parents": ["long"]}},
            ])
        """)
        assert done.tasks == {"work": "failed"}
        if done.xcom("work", "titan_job_ids") is not None:  # they had been submitted by then
            break
    states = client.get_job_statuses(list(done.xcom("work", "titan_job_ids").values()))
    assert set(states.values()) == {JobStatus.CANCELLED}


@BOTH
def test_a_job_that_finds_no_worker_ends_them_all(run: RunDag, deferrable: bool, client: TitanClient) -> None:
    done = run(
        [
            {"job_id": "first", "script": "print(1)"},
            {"job_id": "stuck", "script": "print(2)", "parents": ["first"], "requirement": "QUANTUM"},
            {"job_id": "last", "script": "print(3)", "parents": ["stuck"]},
        ],
        deferrable=deferrable,
        placement_timeout=5,  # each job has it from when it is ready, the first one, which does start, too
    )
    (error,) = done.errors
    assert isinstance(error, TitanPlacementTimedOut)
    assert re.search(r"job 'stuck' had not started 5 s after .*no worker has the tag 'QUANTUM'", str(error))
    ids = done.xcom("work", "titan_job_ids")
    states = client.get_job_statuses(list(ids.values()))
    assert {name: states[job_id] for name, job_id in ids.items()} == {
        "first": JobStatus.COMPLETED,
        "stuck": JobStatus.CANCELLED,
        "last": JobStatus.CANCELLED,
    }


def test_without_waiting_the_ids_are_the_result(run: RunDag, client: TitanClient) -> None:
    done = run([{"job_id": "a", "script": "print(1)"}], wait_for_completion=False)
    assert client.wait_for_job(done.xcom("work")["a"], timeout=120).state.is_success


@BOTH
def test_a_silent_master_ends_the_wait(
    run: RunDag, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", "titan://127.0.0.1:9")
    done = run([{"job_id": "a", "script": "print(1)"}], deferrable=deferrable, unreachable_timeout=0.2)
    assert "127.0.0.1:9" in str(done.errors[0])


def test_titan_jobs_are_taken_as_they_are(run_dag: RunDag, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(result("titan_job.params"))
    done = run_dag(f"""
        from titan_provider.operators.dag import TitanDagOperator
        from titan_sdk import TitanJob
        a = TitanJob("a", {str(tmp_path / "a.py")!r}, params=[1], requirement="GPU")
        TitanDagOperator(task_id="work", jobs=[a, {{"job_id": "b", "filename": {str(tmp_path / "a.py")!r}, "parents": ["a"]}}])
    """)
    assert done.xcom("work") == {"a": [1], "b": None}


REFUSED = [
    ([], "jobs must be a list of at least one dict or TitanJob"),
    ("a.py", "jobs must be a list"),
    ([1], "jobs[0] is a int; give a dict or a TitanJob"),
    ([{"script": "1"}], "jobs[0] has no name"),
    ([{"job_id": "a"}], "jobs[0] (a): give one of 'filename', 'script' and 'module'"),
    ([{"job_id": "a", "script": "", "filename": "x"}], "give one of 'filename', 'script' and 'module'"),
    ([{"job_id": "a", "script": "", "parents": "b"}], "parents 'b' is a single text"),
    ([{"job_id": "a", "script": "", "gpu": 1}], "jobs[0] (a): 'gpu' is no parameter of a job"),
    ([{"job_id": "a", "script": "", "port": 80}], "'port' cannot be used here: services do not end"),
    ([{"job_id": "a", "script": "", "owner_lease": 9}], "'owner_lease' cannot be used here"),
    ([{"job_id": "a", "script": ""}, {"job_id": "a", "script": ""}], "more than one job is called 'a'"),
    ([{"job_id": "a", "script": "", "params": {"b": ...}}], "jobs[0] (a): params['b']"),
    ([{"job_id": "a", "script": "", "parents": ["a"]}], "cycle"),
    ([{"job_id": "a", "script": "", "parents": ["nobody"]}], "'nobody'"),
    ([{"job_id": "a", "script": "", "priority": "high"}], "priority 'high' is not"),
]


@pytest.mark.parametrize(("jobs", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_makes_no_sense_is_refused_before_anything_is_sent(run: RunDag, jobs: Any, words: str) -> None:
    (error,) = run(jobs).errors
    assert words in str(error)


class TestOnKill:
    def armed(self, job_ids: list[str]) -> TitanDagOperator:
        task = TitanDagOperator(task_id="mine", jobs=[])
        task._cancellation.connect(TitanHook(task.titan_conn_id).get_config())
        task._cancellation.track(job_ids)
        return task

    def test_a_kill_cancels_every_job(
        self, airflow_connection: str, client: TitanClient, tmp_path: Path
    ) -> None:
        (tmp_path / "a.py").write_text("print(1)")
        one = TitanJob(f"one-{tmp_path.name}", str(tmp_path / "a.py"), requirement="QUANTUM")
        two = TitanJob(f"two-{tmp_path.name}", str(tmp_path / "a.py"), parents=[one.job_id])
        client.submit_dag("d", [one, two])
        self.armed(["never-submitted", two.job_id, one.job_id]).on_kill()
        assert set(client.get_job_statuses([one.job_id, two.job_id]).values()) == {JobStatus.CANCELLED}

    def test_a_master_that_is_gone_does_not_hold_it_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", "titan://127.0.0.1:9")
        began = time.monotonic()
        self.armed(["a", "b", "c"]).on_kill()
        assert time.monotonic() - began < 15
