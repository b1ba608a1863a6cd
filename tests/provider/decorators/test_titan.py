"""`@task.titan` in a real Airflow, on a real master."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.rules.sources import ROOT
from tests.support.airflow_run import Outcome
from titan_provider.decorators.titan import titan_task
from titan_provider.exceptions import TitanFunctionRefused, TitanJobFailed
from titan_sdk import TitanClient, values

pytestmark = pytest.mark.airflow

RunDag = Callable[..., Outcome]
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferrable"])


@BOTH
def test_arguments_go_in_and_the_returned_value_is_the_xcom(run_dag: RunDag, deferrable: bool) -> None:
    done = run_dag(f"""
        @task.titan(requirement="GPU", env={{"WHO": "{{{{ task.task_id }}}}"}}, deferrable={deferrable})
        def train(rows: list[int], run: str, *, scale: float = 2.0, ds_nodash: str | None = None):
            import os
            # a comment, and a text that looks like a template: {{{{ x }}}}
            return {{"sum": sum(rows) * scale, "who": os.environ["WHO"], "worker": os.environ["TITAN_WORKER"],
                    "run": run, "text": "{{{{ x }}}}", "airflow": "airflow" in __import__("sys").modules,
                    "timedelta": None, "ds": ds_nodash}}
        @task
        def numbers(): return [1, 2, 3]
        train(numbers(), run="{{{{ run_id }}}}")
    """)
    assert done.state == "success", done.errors
    assert done.xcom("train") == {
        "sum": 12.0,
        "who": "train",
        "worker": "GPU-1",
        "run": done.run.run_id,
        "text": "{{ x }}",
        "airflow": False,
        "timedelta": None,
        "ds": done.run.logical_date.strftime("%Y%m%d"),
    }
    assert done.xcom("train", "titan_job_id").startswith(f"{done.run.dag_id}.train.")


@BOTH
def test_multiple_outputs_and_an_override(run_dag: RunDag, deferrable: bool) -> None:
    done = run_dag(f"""
        @task.titan(multiple_outputs=True, deferrable={deferrable})
        def split(n): return {{"half": n / 2, "double": n * 2}}
        @task.titan(deferrable={deferrable})
        def annotated() -> dict[str, int]: return {{"one": 1}}
        @task.titan
        def after(half, double): return [half, double]
        parts = split(3)
        after.override(task_id="renamed", requirement="GPU")(parts["half"], parts["double"])
        annotated()
    """)
    assert done.state == "success", done.errors
    assert (done.xcom("split", "half"), done.xcom("split", "double")) == (1.5, 6)
    assert done.xcom("annotated", "one") == 1
    assert done.xcom("renamed") == [1.5, 6]


@BOTH
def test_expand_and_partial(run_dag: RunDag, deferrable: bool) -> None:
    done = run_dag(f"""
        @task.titan(deferrable={deferrable})
        def power(base, exponent): return base ** exponent
        @task.titan
        def total(values): return sum(values)
        total(power.partial(exponent=2).expand(base=[1, 2, 3]))
        power.override(task_id="kwargs").expand_kwargs([{{"base": 2, "exponent": 3}}])
    """)
    assert done.state == "success", done.errors
    assert [done.xcom("power", map_index=n) for n in range(3)] == [1, 4, 9]
    assert done.xcom("total") == 14
    assert done.xcom("kwargs", map_index=0) == 8


def test_nothing_returned_pushes_nothing_and_a_result_set_inside_counts(run_dag: RunDag) -> None:
    done = run_dag("""
        @task.titan
        def quiet(): print("done")
        @task.titan
        def by_hand():
            import titan_job
            titan_job.result([1])
        quiet(); by_hand()
    """)
    assert done.state == "success", done.errors
    assert done.xcom("quiet") is None
    assert done.xcom("by_hand") == [1]


@BOTH
def test_a_remote_exception_comes_with_the_lines_of_the_users_file(run_dag: RunDag, deferrable: bool) -> None:
    done = run_dag(f"""
        def check(rows):
            if not rows:
                raise ValueError("no rows")
        @task.titan(deferrable={deferrable})
        def load(rows):
            check(rows)
        load([])
    """)
    assert done.tasks == {"load": "failed"}
    (error,) = done.errors
    assert isinstance(error, TitanJobFailed)
    assert error.report.exception is not None
    text = error.report.exception.traceback
    assert str(error).startswith("ValueError: no rows (")
    lines = Path(os.environ["AIRFLOW_HOME"], "dags", f"{done.run.dag_id}.py").read_text().splitlines()
    for words in ('raise ValueError("no rows")', "check(rows)"):
        number = next(n for n, line in enumerate(lines, 1) if line.strip() == words)
        assert f'{done.run.dag_id}.py", line {number}, in' in text
    assert "ValueError: no rows" in text


def test_a_member_of_an_enumeration_of_texts_arrives_as_its_text(run_dag: RunDag) -> None:
    """Jinja would render its name."""
    done = run_dag("""
        from enum import Enum
        class Tag(str, Enum):
            GPU = "gpu"
        @task.titan
        def echo(x, y=None): return [x, y]
        echo(Tag.GPU, y=[{"k": Tag.GPU, Tag.GPU: 1}])
        @task.titan
        def each(x, y): return [x, y]
        each.partial(y=Tag.GPU).expand(x=[Tag.GPU])
    """)
    assert done.xcom("echo") == ["gpu", [{"k": "gpu", "gpu": 1}]]
    assert done.xcom("each", map_index=0) == ["gpu", "gpu"]


def test_a_value_that_cannot_travel_is_refused_by_its_place_and_not_retried(run_dag: RunDag) -> None:
    done = run_dag("""
        @task.titan(retries=3)
        def f(config): return config
        @task
        def made(): return {"titan_value": 1, "value": {"$": "pickle", "python": "3.11", "v": ""}}
        f(made())
    """)
    assert done.tasks == {"made": "success", "f": "failed"}
    (error,) = done.errors
    assert "f()'s argument 'config' is pickled by another task, and a pickle can run anything" in str(error)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            "f({'a': [1, {'start': range(1)}]})",
            "f()'s argument 'config'['a'][1]['start'] is of type builtins.range, which cannot be carried",
        ),
        ("f(1, when=range(1))", "f()'s argument 'when' is of type builtins.range"),
        ("f([f(1), range(1)])", "f()'s argument 'config'[1] is of type builtins.range"),
        ("f({1: range(1)})", "f()'s argument 'config'[1] is of type builtins.range"),
        ("f.expand(config=[1, range(1)])", "f()'s argument 'config'[1] is of type builtins.range"),
        ("f.partial(when=range(1)).expand(config=[1])", "f()'s argument 'when' is of type builtins.range"),
        (
            "f.override(task_id='g').expand_kwargs([{'config': {len}}])",
            "f()'s argument 'config'{a member} is of type builtins.builtin_function_or_method",
        ),
        ("g()", "g()'s argument 'ti' is an object of Airflow's context, which does not exist on a worker"),
        (
            "h()",
            "h() uses below(), which has a default for 'span', a datetime.timedelta, which cannot travel",
        ),
    ],
)
def test_what_a_call_shows_is_refused_while_the_dag_file_is_read(
    run_dag: RunDag, call: str, words: str
) -> None:
    with pytest.raises(TitanFunctionRefused) as caught:
        run_dag(f"""
            @task.titan
            def f(config, *, when=None): return config
            @task.titan
            def g(ti=None): return 1
            @task.titan
            def h(): return below()
            def below(span=timedelta(1)): return 1
            {call}
        """)
    assert words in str(caught.value)


TYPED = """
from tests.sdk.values.shop import Colour, Item, Point

@task.titan(env={{"PYTHONPATH": {path!r}}})
def first(item: "Item | Colour", when, pair: "tuple[Point, int]", logical_date=None):
    assert (type(item).__name__, item.colour.name, type(pair[0]).__name__) == ("Item", "RED", "Point")
    return {{"when": (when, logical_date), "set": {{1}}, "item": item, "bytes": b"x"}}

@task.titan(env={{"PYTHONPATH": {path!r}}})
def second(given: "dict[str, Item | Colour]"):
    assert type(given["item"]).__name__ == "Item"
    return [given["when"], given["set"], given["bytes"]]

@task
def at_home(given):
    import datetime
    from titan_sdk import values
    when = given["when"]
    when = values.load(when) if values.is_envelope(when) else when  # Airflow 2 stores no tuple in a dict
    assert when[0] == datetime.timedelta(1), given
    assert given["set"] == {{1}}, given

made = first(Item("x"), timedelta(1), pair=(Point(1, 2), 3))
at_home(made) >> second(made)
"""


def test_values_keep_their_types_from_airflow_to_a_job_to_the_next_one(run_dag: RunDag) -> None:
    """With Airflow's own XCom backend: what it cannot store exactly stays an envelope for the next job."""
    done = run_dag(TYPED.format(path=str(ROOT)))
    assert done.state == "success", done.errors
    assert done.xcom("first")["bytes"] == {"titan_value": 1, "value": {"$": "bytes", "v": "eA=="}}
    when, members, data = values.load(done.xcom("second"))
    assert (when, members, data) == ((timedelta(1), done.run.logical_date), {1}, b"x")
    assert type(when) is tuple


def test_objects_of_any_class_travel_where_cloudpickle_is_asked_for(run_dag: RunDag) -> None:
    pytest.importorskip("cloudpickle")
    done = run_dag("""
        import sys
        @task.titan(serializer="cloudpickle", python=sys.executable)
        def first(given): return {"f": lambda x: x + given.start}
        @task.titan(serializer="cloudpickle", python=sys.executable)
        def second(found): return found["f"](2)
        @task.titan
        def third(found): return 1
        made = first(range(3, 4))
        second(made)
        third(made)
    """)
    assert done.tasks == {"first": "success", "second": "success", "third": "failed"}
    assert values.load(done.xcom("second"), serializer="cloudpickle") == 5


def test_a_function_that_takes_the_whole_context_gets_what_is_json(run_dag: RunDag) -> None:
    done = run_dag("""
        @task.titan
        def f(given, **context):
            return {"ds": context["ds"], "run_id": context["run_id"], "params": context["params"], "given": given,
                    "more": context["more"], "absent": sorted({"ti", "dag", "logical_date", "var"} & set(context))}
        f(1, more=[2])
        @task.titan
        def g(params=None): return params
        g()
    """)
    assert done.state == "success", done.errors
    assert done.xcom("f") == {
        "ds": done.run.logical_date.strftime("%Y-%m-%d"),
        "run_id": done.run.run_id,
        "params": {},
        "given": 1,
        "more": [2],
        "absent": [],
    }
    assert done.xcom("g") == {}


@pytest.mark.parametrize(
    "use", ['context["ti"]', 'context.get("task_instance")', 'context.pop("dag_run", None)']
)
def test_a_use_of_the_context_that_cannot_be_is_refused_by_its_key(run_dag: RunDag, use: str) -> None:
    with pytest.raises(
        TitanFunctionRefused, match=r"f\(\) uses context\['.*'\], an object of Airflow's context"
    ):
        run_dag(f"@task.titan\ndef f(**context): return {use}\nf()")


def test_each_task_of_a_loop_keeps_its_own_default(run_dag: RunDag) -> None:
    done = run_dag("""
        for name, limit in {"a": 1, "b": 2}.items():
            @task.titan(task_id=f"w_{name}")
            def work(limit=limit): return limit
            work()
    """)
    assert done.state == "success", done.errors
    assert (done.xcom("w_a"), done.xcom("w_b")) == (1, 2)


def test_a_returned_value_that_is_not_json_is_a_remote_error_and_an_artifact(
    run_dag: RunDag, client: TitanClient, tmp_path: Path
) -> None:
    done = run_dag("""
        @task.titan
        def f(): return {"rows": [range(2)]}
        f()
    """)
    text = str(done.errors[0])
    assert "TypeError: result['rows'][0] is of type builtins.range, which cannot be carried" in text
    assert "The value was {'rows': [range(0, 2)]}" in text
    (name,) = set(re.findall(r"unsent-\S+\.pickle", text))
    path = client.fetch_artifact(name, tmp_path / "value")
    assert pickle.loads(path.read_bytes()) == {"rows": [range(2)]}


@pytest.mark.parametrize("name", ["filename", "script", "args", "job_params"])
def test_what_the_function_is_for_is_no_option(name: str) -> None:
    with pytest.raises(TitanFunctionRefused, match=f"takes no {name}="):
        titan_task(**{name: "x"})


def test_a_refusal_comes_while_the_dag_file_is_read() -> None:
    rows = [1]
    with pytest.raises(TitanFunctionRefused, match="uses 'rows' of the function around it"):

        @titan_task
        def f() -> int:
            return len(rows)


def test_methods_are_refused() -> None:
    with pytest.raises(TypeError, match="does not support methods"):

        @titan_task()
        def f(self: object) -> int:
            return 1
