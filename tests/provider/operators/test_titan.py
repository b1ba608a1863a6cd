from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_run import Outcome
from titan_provider.exceptions import (
    TitanJobFailed,
    TitanJobFailedForGood,
    TitanJobTimedOut,
    TitanPlacementTimedOut,
)
from titan_provider.hooks.titan import TitanHook
from titan_provider.operators.titan import TitanJobOperator
from titan_sdk import JobStatus, TitanClient

pytestmark = pytest.mark.airflow

RunDag = Callable[..., Outcome]
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferrable"])

ECHO = r"""
import os, sys, titan_job
titan_job.result({"argv": sys.argv[1:], "env": os.environ["WHO"], "params": titan_job.params})
"""


@BOTH
def test_everything_given_reaches_the_script_and_its_result_is_the_xcom(
    run_dag: RunDag, deferrable: bool
) -> None:
    done = run_dag(f"""
        TitanJobOperator(task_id="echo", script={ECHO!r}, deferrable={deferrable},
            args=["a b", "", "ü;|$'\\"", "x.yaml", "{{{{ dag.dag_id }}}}"], env={{"WHO": "{{{{ task.task_id }}}}"}},
            job_params={{"deep": [{{"run": "{{{{ run_id }}}}"}}], "file": "conf.py", "n": 1.5}})
    """)
    assert done.state == "success"
    assert done.xcom("echo") == {
        "argv": ["a b", "", "ü;|$'\"", "x.yaml", done.run.dag_id],
        "env": "echo",
        "params": {"deep": [{"run": done.run.run_id}], "file": "conf.py", "n": 1.5},
    }
    assert done.xcom("echo", "titan_job_id").startswith(f"{done.run.dag_id}.echo.")


@BOTH
def test_a_script_without_a_result_pushes_nothing(run_dag: RunDag, deferrable: bool) -> None:
    done = run_dag(f'TitanJobOperator(task_id="quiet", script="print(1)", deferrable={deferrable})')
    assert done.state == "success"
    assert done.xcom("quiet") is None


def test_a_task_called_like_a_module_hides_it_from_nobody(run_dag: RunDag) -> None:
    done = run_dag("""
        script = "import email.message, statistics, titan_job; titan_job.result(statistics.mean([1, 3]))"
        TitanJobOperator(task_id="email", script=script) >> TitanJobOperator(task_id="statistics", script=script)
        @task.titan(task_id="function")
        def json():
            from email import message
            return 3
        json()
    """)
    assert done.state == "success", done.errors
    assert (done.xcom("email"), done.xcom("statistics"), done.xcom("function")) == (2, 2, 3)


@BOTH
def test_every_line_of_the_log_is_in_the_task_log_once_and_in_order(
    run_dag: RunDag, deferrable: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "for n in range(500):\n    print(f'<{n}>')\nprint('<end>', end='')"
    done = run_dag(f'TitanJobOperator(task_id="talk", script={script!r}, deferrable={deferrable})')
    assert done.state == "success"
    out = capfd.readouterr().out
    seen = [
        word for line in out.splitlines() for word in line.split() if word[:1] == "<" and word[-1:] == ">"
    ]
    assert [w for w in seen if w[1:-1].isdigit() or w == "<end>"] == [f"<{n}>" for n in range(500)] + [
        "<end>"
    ]


@BOTH
def test_a_failure_tells_the_reason_first_and_nothing_that_the_log_has(
    run_dag: RunDag, deferrable: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "print('reading rows')\nraise ValueError('no rows')"
    done = run_dag(f'TitanJobOperator(task_id="bad", script={script!r}, deferrable={deferrable})')
    assert done.tasks == {"bad": "failed"}
    (error,) = done.errors
    assert isinstance(error, TitanJobFailed)
    job_id = done.xcom("bad", "titan_job_id")
    assert re.fullmatch(
        rf"ValueError: no rows \(bad\S*\.py, line 2\); job '{job_id}' failed with exit code 1 on worker \S+",
        str(error),
    )
    assert error.report.exit_code == 1
    assert error.report.exception is not None
    assert "line 2, in <module>" in error.report.exception.traceback
    assert "reading rows" in error.log_tail
    out = capfd.readouterr().out
    assert out.count("raise ValueError('no rows')") == 1, "the remote traceback, in the job's own lines"
    assert out.count("reading rows") == 1


def test_a_script_without_an_exception_fails_with_its_last_line(run_dag: RunDag) -> None:
    script = "#!/bin/bash\necho begun; echo no space left >&2; exit 3"
    done = run_dag(f'TitanJobOperator(task_id="bad", script={script!r})')
    job_id = done.xcom("bad", "titan_job_id")
    assert re.fullmatch(
        rf"failed with exit code 3 on worker \S+; its last line: no space left; job '{job_id}'",
        str(done.errors[0]),
    )


@BOTH
def test_a_signal_is_named(run_dag: RunDag, deferrable: bool) -> None:
    script = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    done = run_dag(f'TitanJobOperator(task_id="shot", script={script!r}, deferrable={deferrable})')
    assert "SIGKILL" in str(done.errors[0])


def test_chosen_exit_codes_are_not_retried(run_dag: RunDag) -> None:
    body = 'TitanJobOperator(task_id="bad", script="raise SystemExit({})", no_retry_exit_codes=[42])'
    assert isinstance(run_dag(body.format(42)).errors[0], TitanJobFailedForGood)


def test_another_exit_code_is_an_ordinary_failure(run_dag: RunDag) -> None:
    body = 'TitanJobOperator(task_id="bad", script="raise SystemExit(41)", no_retry_exit_codes=[42])'
    assert type(run_dag(body).errors[0]) is TitanJobFailed


@BOTH
def test_the_execution_timeout_ends_the_remote_job(
    run_dag: RunDag, deferrable: bool, client: TitanClient
) -> None:
    for seconds in (2, 10, 40):
        done = run_dag(f"""
            TitanJobOperator(task_id="long", script="import time; time.sleep(600)", deferrable={deferrable},
                execution_timeout=timedelta(seconds={seconds}))
        """)
        assert done.tasks == {"long": "failed"}
        if done.xcom("long", "titan_job_id") is not None:  # it had been submitted by then
            break
    if deferrable:
        assert isinstance(done.errors[0], TitanJobTimedOut)
    assert client.get_job_status(done.xcom("long", "titan_job_id")) is JobStatus.CANCELLED


@BOTH
def test_a_job_that_finds_no_worker_is_explained_and_ended(
    run_dag: RunDag, deferrable: bool, client: TitanClient
) -> None:
    done = run_dag(f"""
        TitanJobOperator(task_id="stuck", script="print(1)", requirement="QUANTUM", deferrable={deferrable},
            placement_timeout=timedelta(seconds=0.3))
    """)
    (error,) = done.errors
    assert isinstance(error, TitanPlacementTimedOut)
    assert "no worker has the tag 'QUANTUM' (tags present: GENERAL, GPU)" in str(error)
    assert client.get_job_status(done.xcom("stuck", "titan_job_id")) is JobStatus.CANCELLED


@BOTH
def test_mapped_tasks_each_have_their_own_job(run_dag: RunDag, deferrable: bool) -> None:
    script = "import titan_job; titan_job.result(titan_job.params['n'] ** 2)"
    done = run_dag(f"""
        TitanJobOperator.partial(task_id="square", script={script!r}, deferrable={deferrable}).expand(
            job_params=[{{"n": 2}}, {{"n": 3}}])
    """)
    assert done.state == "success"
    assert [done.xcom("square", map_index=n) for n in (0, 1)] == [4, 9]
    ids = [done.xcom("square", "titan_job_id", map_index=n) for n in (0, 1)]
    assert ".m0." in ids[0]
    assert ".m1." in ids[1]


def test_an_xcom_of_a_task_before_is_a_job_parameter(run_dag: RunDag) -> None:
    done = run_dag("""
        one = TitanJobOperator(task_id="one", script="import titan_job; titan_job.result([1, 2])")
        two = TitanJobOperator(task_id="two", job_params={"rows": one.output}, parents=[one.output["titan_job_id"]],
            script="import titan_job; titan_job.result(titan_job.params['rows'] * 2)", affinity=True)
        one >> two
    """)
    assert done.xcom("two") == [1, 2, 1, 2]


def test_without_waiting_the_xcom_is_the_jobs_id(run_dag: RunDag, client: TitanClient) -> None:
    done = run_dag(
        'TitanJobOperator(task_id="go", script="print(1)", wait_for_completion=False, deferrable=True)'
    )
    assert client.wait_for_job(done.xcom("go"), timeout=120).state is JobStatus.COMPLETED


def test_a_script_beside_the_dag_file_is_found(run_dag: RunDag, airflow_home: Path) -> None:
    (airflow_home / "dags" / "beside.sh").write_text('echo "$1"; python3 -m titan_job result "\\"$1\\""\n')
    assert run_dag('TitanJobOperator(task_id="sh", filename="beside.sh", args="hello")').xcom("sh") == "hello"


def test_a_template_file_is_rendered_into_the_script(run_dag: RunDag, airflow_home: Path) -> None:
    template = "import titan_job\ntitan_job.result('{{ task.task_id }}')\n"
    (airflow_home / "dags" / "made.py.j2").write_text(template)
    assert run_dag('TitanJobOperator(task_id="made", script="made.py.j2")').xcom("made") == "made"


def test_a_missing_script_fails_before_anything_is_sent(run_dag: RunDag) -> None:
    done = run_dag('TitanJobOperator(task_id="lost", filename="nowhere.py")')
    assert "the script 'nowhere.py' was not found: there is no file" in str(done.errors[0])
    assert done.xcom("lost", "titan_job_id") is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give one of filename=, script= and module="),
        ({"filename": "a.py", "script": "print()"}, "give one of filename=, script= and module="),
        ({"script": "print()", "poll_interval": 0}, "poll_interval 0 is not a number of seconds above 0"),
        ({"script": "print()", "max_unfinished": 0}, "max_unfinished 0 lets no job through"),
        ({"script": "print()", "owner_lease": 60, "wait_for_completion": False}, "owner_lease needs wait"),
    ],
)
def test_mistakes_are_refused_when_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="task 'mine'") as caught:
        TitanJobOperator(task_id="mine", **arguments)
    assert words in str(caught.value)


def test_parsing_fetches_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("a connection was fetched")

    monkeypatch.setattr(TitanHook, "get_connection", forbidden)
    TitanJobOperator(task_id="mine", script="print(1)", deferrable=True)


@pytest.mark.usefixtures("airflow_connection")
class TestKill:
    """`on_kill` as Airflow calls it: on an operator that is in the middle of its wait."""

    def armed(self, job_id: str) -> TitanJobOperator:
        task = TitanJobOperator(task_id="mine", script="print(1)")
        task._cancellation.connect(TitanHook().get_config())
        task._cancellation.track([job_id])
        return task

    def test_it_cancels_the_job(self, submit: Callable[..., str], client: TitanClient) -> None:
        job_id = submit("import time; time.sleep(600)")
        self.armed(job_id).on_kill()
        assert client.get_job_status(job_id) is JobStatus.CANCELLED

    def test_it_may_be_told_not_to(self, submit: Callable[..., str], client: TitanClient) -> None:
        job_id = submit("print(1)", requirement="QUANTUM")
        task = self.armed(job_id)
        task.cancel_on_kill = False
        task.on_kill()
        assert client.get_job_status(job_id) is JobStatus.PENDING
        client.cancel_job(job_id)

    def test_a_master_that_is_gone_does_not_hold_it_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", "titan://127.0.0.1:9")
        began = time.monotonic()
        self.armed("some-job").on_kill()
        assert time.monotonic() - began < 15

    def test_before_the_submit_there_is_nothing_to_cancel(self) -> None:
        TitanJobOperator(task_id="mine", script="print(1)").on_kill()
