"""Files and checkpoints of a task's job, in a real Airflow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.airflow_run import Outcome

pytestmark = pytest.mark.airflow

RunDag = Callable[..., Outcome]


def test_a_task_s_outputs_are_xcoms_that_the_next_one_takes_as_inputs(run_dag: RunDag) -> None:
    done = run_dag(
        """
        train = TitanJobOperator(
            task_id="train",
            script="import os; os.mkdir('p'); [open('p/%s.txt' % n, 'w').write(n) for n in 'ab']; open('m', 'w').write('model')",
            outputs={"model": "m", "plots": "p/*.txt"},
        )
        TitanJobOperator(
            task_id="evaluate",
            script="import os, titan_job; titan_job.result([open('m.pt').read(), sorted(os.listdir('plots'))])",
            inputs={"m.pt": train.output["model"], "plots/": train.output["plots"]},
            deferrable=True,
        )

        @task.titan(outputs={"text": "t.txt"})
        def writes():
            with open("t.txt", "w") as file:
                file.write("text")
            return 7
        writes()
        """
    )
    assert done.state == "success", done.errors
    assert done.xcom("evaluate") == ["model", ["a.txt", "b.txt"]]
    model = done.xcom("train", "model")
    assert (model["titan_file"], model["size"], model["path"]) == (1, 5, "m")
    assert [each["path"] for each in done.xcom("train", "plots")] == ["p/a.txt", "p/b.txt"]
    assert (done.xcom("writes"), done.xcom("writes", "text")["size"]) == (7, 4)


RESUMES = """
import sys, titan_job
path = titan_job.restore()
if path is None:
    open("c", "w").write("kept")
    titan_job.checkpoint("c", step=800)
    sys.exit(1)
titan_job.result([open(path).read(), path.step])
"""


def test_a_retry_goes_on_from_the_checkpoint_of_the_try_before(run_dag: RunDag) -> None:
    done = run_dag(
        f'TitanJobOperator(task_id="train", script={RESUMES!r}, retries=1, retry_delay=timedelta(0))'
    )
    assert done.state == "success", done.errors
    assert done.xcom("train") == ["kept", 800]
