"""Templates where users write them: in every field, nested, and in files."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

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
        "owner_lease",
        "max_unfinished",
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
