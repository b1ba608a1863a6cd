"""Templates where users write them: in every field, nested, and in files."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_run import Outcome, unique
from titan_provider.operators.dag import TitanDagOperator
from titan_provider.operators.service import TitanServiceOperator, TitanServiceStopOperator
from titan_provider.operators.titan import TitanJobOperator

pytestmark = pytest.mark.airflow

RunDag = Callable[..., Outcome]
NOT_TEMPLATED = {
    TitanJobOperator: {
        "priority",
        "affinity",
        "delay",
        "max_attempts",
        "timeout",
        "cancel_grace",
        "owner_lease",
        "max_unfinished",
        "cwd",
        "inherit_packages",
        "keep_checkpoint",
        "resume_on_clear",
        "wait_for_completion",
        "deferrable",
        "poll_interval",
        "placement_timeout",
        "unreachable_timeout",
        "cancel_on_kill",
        "durable",
        "no_retry_exit_codes",
    },
    TitanDagOperator: {
        "wait_for_completion",
        "deferrable",
        "poll_interval",
        "log_interval",
        "placement_timeout",
        "unreachable_timeout",
        "cancel_on_kill",
        "durable",
    },
    TitanServiceOperator: {"priority", "start_timeout", "poll_interval", "unreachable_timeout", "durable"},
    TitanServiceStopOperator: {"copy_log"},
}


@pytest.mark.parametrize("operator", NOT_TEMPLATED, ids=lambda operator: operator.__name__)
def test_every_parameter_that_holds_text_is_templated(operator: type) -> None:
    import inspect

    parameters = set(inspect.signature(operator.__init__).parameters) - {"self", "kwargs"}
    assert set(operator.template_fields) == parameters - NOT_TEMPLATED[operator]  # type: ignore[attr-defined]


@pytest.fixture
def script(airflow_home: Path) -> Callable[[str, str], str]:
    """Write a file beside the DAG files; returns its name."""

    def write(suffix: str, text: str) -> str:
        name = unique("file") + suffix
        (airflow_home / "dags" / name).write_text(text)
        return name

    return write


def test_a_script_file_arrives_as_it_is_and_a_template_file_rendered(
    run_dag: RunDag, script: Callable[[str, str], str]
) -> None:
    python = script(".py", "import titan_job; titan_job.result('{{ run_id }}')")
    shell = script(".sh", "#!/bin/bash\npython3 -m titan_job result '\"{{ run_id }}\"'")
    template = script(".py.j2", "import titan_job; titan_job.result('{{ run_id }}')")
    shell_template = script(".sh.j2", "#!/bin/bash\npython3 -m titan_job result '\"{{ run_id }}\"'")
    done = run_dag(f"""
        TitanJobOperator(task_id="python", filename="{python}")
        TitanJobOperator(task_id="shell", filename="{shell}")
        TitanJobOperator(task_id="template", script="{template}")
        TitanJobOperator(task_id="shell_template", script="{shell_template}")
        TitanJobOperator(task_id="chosen", filename="{{{{ '{python}' }}}}")
    """)
    assert done.state == "success", done.errors
    literally = "{{ run_id }}"
    found = {task: done.xcom(task) for task in done.tasks}
    assert found == {
        "python": literally,
        "shell": literally,
        "template": done.run.run_id,
        "shell_template": done.run.run_id,
        "chosen": literally,
    }


def test_arguments_that_look_like_files_stay_texts(run_dag: RunDag) -> None:
    done = run_dag("""
        echo = "import sys, titan_job; titan_job.result([sys.argv[1:], titan_job.params])"
        TitanJobOperator(task_id="t", script=echo, args=["--config", "run.yaml", "x.sh"], job_params={"f": "y.py"})
    """)
    assert done.xcom("t") == [["--config", "run.yaml", "x.sh"], {"f": "y.py"}]


def test_a_script_given_by_its_file_name_is_refused_with_the_right_parameter(run_dag: RunDag) -> None:
    """`script="train.py"` would run a Python file that consists of the words "train.py"."""
    done = run_dag('TitanJobOperator(task_id="t", script="jobs/train.py")')
    assert "script 'jobs/train.py' is the name of a file; give it as filename=" in str(done.errors[0])


def test_nothing_is_templated_twice(run_dag: RunDag) -> None:
    """What an XCom holds is data, not a template."""
    assert importlib.util.find_spec("jinja2")
    done = run_dag("""
        @task
        def text(): return "{{ dag.dag_id }}"
        TitanJobOperator(task_id="t", script="import titan_job; titan_job.result(titan_job.params)",
                         job_params={"deep": [text()], "pulled": "{{ ti.xcom_pull('text') }}"})
    """)
    assert done.xcom("t") == {"deep": ["{{ dag.dag_id }}"], "pulled": "{{ dag.dag_id }}"}


def test_native_templates_make_numbers_which_arrive_as_texts(run_dag: RunDag) -> None:
    """Also where Airflow's own values become numbers: the task names its job after a date without dashes."""
    show = "import os, sys, titan_job; titan_job.result([sys.argv[1:], os.environ['N'], os.environ['B']])"
    done = run_dag(f"""
        from titan_provider.operators.dag import TitanDagOperator
        dag.render_template_as_native_obj = True
        show = {show!r}
        env = {{"N": "{{{{ 1 + 2 }}}}", "B": "{{{{ 1 == 1 }}}}"}}
        TitanJobOperator(task_id="listed", script=show, args=["--n", "{{{{ 3 }}}}", 0.5, True], env=env,
                         job_id="{{{{ 20240131 }}}}")
        TitanJobOperator(task_id="single", script=show, args="{{{{ 7 }}}}", env=env, deferrable=True)
        TitanDagOperator(task_id="many", dag_name="{{{{ 20240131 }}}}", jobs=[
            {{"job_id": "{{{{ 1 }}}}", "script": show, "args": ["{{{{ 3 }}}}"], "env": env, "priority": "{{{{ 5 }}}}"}},
            {{"job_id": "b", "parents": ["{{{{ 1 }}}}"], "script": show, "env": env, "timeout": "{{{{ 60 }}}}"}},
        ])
    """)
    assert not done.errors
    assert done.xcom("listed") == [["--n", "3", "0.5", "True"], "3", "True"]
    assert done.xcom("listed", "titan_job_id").startswith("20240131")
    assert done.xcom("single") == [["7"], "3", "True"]
    assert done.xcom("many") == {"1": [["3"], "3", "True"], "b": [[], "3", "True"]}


def test_a_duration_may_be_a_text_or_a_timedelta_in_every_operator(run_dag: RunDag) -> None:
    done = run_dag("""
        from titan_provider.operators.dag import TitanDagOperator
        waits = {"poll_interval": "100ms", "unreachable_timeout": timedelta(minutes=1)}
        TitanJobOperator(task_id="job", script="pass", delay="20ms", timeout="1h30m", placement_timeout="10m",
                         owner_lease=timedelta(minutes=2), **waits)
        TitanDagOperator(task_id="many", placement_timeout="10m", log_interval="1m", **waits, jobs=[
            {"job_id": "a", "script": "pass", "delay": timedelta(milliseconds=20), "timeout": "{{ 1 }}m"},
            {"job_id": "b", "script": "pass", "delay": "20", "timeout": "90"},
        ])
        @task.titan(timeout="1m", delay=timedelta(0), **waits)
        def decorated():
            return 1
        sensed = TitanDagSensor(task_id="sensed", job_ids="{{ ti.xcom_pull('job', key='titan_job_id') }}",
                                timeout="1m", poke_interval="100ms", unreachable_timeout="5m")
        dag.get_task("job") >> sensed
        decorated()
    """)
    assert not done.errors
    assert done.state == "success"


@pytest.mark.parametrize("operator", [TitanJobOperator, TitanDagOperator, TitanServiceOperator])
@pytest.mark.parametrize("written", ["soon", 0, "-1s", True, float("nan")])
def test_what_is_no_duration_fails_the_dag_file(operator: Any, written: object) -> None:
    needed = {"jobs": []} if operator is TitanDagOperator else {"script": "pass"}
    needed |= {"port": 1} if operator is TitanServiceOperator else {}
    with pytest.raises(
        ValueError, match=rf"task 't': poll_interval {written!r} is not a number of seconds above 0"
    ):
        operator(task_id="t", poll_interval=written, **needed)


class Tag(str, Enum):  # noqa: UP042 - not StrEnum, whose members print as their values
    GPU = "GPU"


def test_a_member_of_an_enumeration_is_rendered_as_its_value() -> None:
    """Jinja would write ``Tag.GPU``, a tag that no worker has."""
    job = TitanJobOperator(task_id="j", script="pass", requirement=Tag.GPU, job_params={"tags": [Tag.GPU]})
    dag = TitanDagOperator(task_id="d", jobs=[{"job_id": "a", "script": "pass", "requirement": Tag.GPU}])
    for operator, names in ((job, ("requirement", "job_params")), (dag, ("jobs",))):
        rendered = operator.render_template({name: getattr(operator, name) for name in names}, {})
        assert "Tag." not in f"{rendered}"
        assert "GPU" in f"{rendered}"
