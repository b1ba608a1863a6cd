"""What travels with a function, and what is refused: no master and no Airflow needed."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from titan_provider.decorators.shipping import plan_shipment
from titan_provider.exceptions import TitanFunctionRefused

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Import a module with that source; `mark` stands for any decorator that returns the function itself."""

    def load(source: str) -> ModuleType:
        path = tmp_path / "my_dag.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        spec = importlib.util.spec_from_file_location("my_dag", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        vars(module)["mark"] = lambda *_, **__: lambda function: function
        spec.loader.exec_module(module)
        return module

    return load


def run(function: Any, *args: Any) -> Any:
    """The shipped script as a worker runs it, as far as the function."""
    script = plan_shipment(function).script()
    namespace: dict[str, Any] = {"__name__": "not main"}
    exec(compile(script, "my_dag.py", "exec", dont_inherit=True), namespace)
    return namespace[function.__name__](*args)


WHOLE = '''
from __future__ import annotations
import json as j, math
from datetime import timedelta
try:
    import no_such_module as fast
except ImportError:
    fast = None
ROWS = 3; NAMES = ["a", "ü", {"deep": (1, b"x")}]
LATER = timedelta(1)

def helper(x: timedelta,
           *more: "Nope") -> dict[
    str, int]:
    # lost in Airflow's own get_python_source
    return {"x": x * ROWS, "text": """
  # not a comment
    ünïcode {{ not_a_template }}
"""}

def make():
    if True:
        @mark(
            requirement="GPU",
        )
        def train(n: Nope, scale: (Nope) = ROWS, *, name: str = "x:->") -> Nope:
            # a comment
            def nested(m): return [m + scale for scale in range(2)]
            return {"n": n, **helper(n), "sqrt": math.sqrt(n), "j": j.dumps(NAMES[:2]), "fast": fast,
                    "scale": scale, "name": name, "nested": nested(1), "module": __name__}
        return train

train = make()
'''


def test_a_function_takes_along_what_it_uses_and_nothing_else(load: Load) -> None:
    function = load(WHOLE).train
    assert run(function, 4) == {
        "n": 4,
        "x": 12,
        "text": "\n  # not a comment\n    ünïcode {{ not_a_template }}\n",
        "sqrt": 2.0,
        "j": '["a", "\\u00fc"]',
        "fast": None,
        "scale": 3,
        "name": "x:->",
        "nested": [1, 2],
        "module": "not main",
    }
    script = plan_shipment(function).script()
    assert "timedelta" not in script
    assert "# a comment" in script
    assert "# lost in Airflow's own get_python_source" in script
    assert "requirement" not in script


def test_every_shipped_line_has_the_number_it_has_in_the_users_file(load: Load) -> None:
    function = load(WHOLE).train
    written, shipped = WHOLE.splitlines(), plan_shipment(function).script().splitlines()
    bodies = [
        n
        for n, line in enumerate(shipped[: len(written)])
        if line.startswith(" ") and "def train" not in line and "*more" not in line
    ]
    assert len(bodies) > 8
    assert [shipped[n].lstrip() for n in bodies] == [written[n].lstrip() for n in bodies]
    assert shipped[2] == "import json as j; import math"
    try:
        run(function, "not a number")
    except TypeError as exc:
        wanted = next(n for n, line in enumerate(WHOLE.splitlines(), 1) if "math.sqrt(n)" in line)
        assert wanted in [frame.lineno for frame in traceback.extract_tb(exc.__traceback__)]


def test_a_function_may_call_itself_and_helpers_each_other(load: Load) -> None:
    function = load("""
        @mark()
        def count(n): return 0 if not n else 1 + count(n - 1) + even(n) * 0
        def even(n): return True if not n else odd(n - 1)
        def odd(n): return False if not n else even(n - 1)
    """).count
    assert run(function, 5) == 5


def test_globals_have_the_value_of_the_moment_the_task_runs(load: Load) -> None:
    module = load("LIMIT = 1\n@mark()\ndef f(): return LIMIT\n")
    shipment = plan_shipment(module.f)
    module.LIMIT = 2
    assert "LIMIT = 2" in shipment.script()


def test_an_undecorated_first_line_works(load: Load) -> None:
    assert run(load("def f(a): return a\n").f, 1) == 1


def test_tabs_and_line_ends_of_windows(tmp_path: Path, load: Load) -> None:
    assert run(load('if 1:\r\n\t@mark()\r\n\tdef f():\r\n\t\treturn """a\r\n\tb"""\r\n').f) == "a\n\tb"


REFUSED = {
    "yield": ("def f(): yield 1", "f() is a generator"),
    "async": ("async def f(): ...", "f() is asynchronous"),
    "async generator": ("async def f(): yield 1", "f() is asynchronous"),
    "lambda": ("f = lambda: 1", "is a lambda; write it with def"),
    "not a function": ("f = print", "wants a function written with def, not <built-in function print>"),
    "closure": (
        "def outer():\n    rows = 1\n    def f(): return rows\n    return f\nf = outer()",
        "f() uses 'rows' of the function around it, which cannot travel; pass it as an argument",
    ),
    "global": (
        "N = 0\ndef f():\n    global N\n    N = 1",
        "f() sets the global 'N', which Airflow would not see",
    ),
    "class": ("class A: ...\ndef f(): return A()", "uses the class 'A' of its file"),
    "decorated helper": ("@mark()\ndef g(): ...\ndef f(): return g()", "uses g(), which is decorated"),
    "two helpers": (
        "if 1:\n    def g(): ...\nelse:\n    def g(): ...\ndef f(): return g()",
        "is decorated or defined more than once",
    ),
    "unknown": ("def f(): return nowhere", "uses 'nowhere', which is not defined in its file"),
    "star": (
        "from math import *\ndef f(): return sqrt(4)",
        "uses 'sqrt', which comes from 'import *' of math",
    ),
    "typing": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import decimal\ndef f(): return decimal.Decimal()",
        "uses 'decimal', which is imported for type checking only",
    ),
    "star over a name": (
        "from math import pi\nfrom math import *\ndef f(): return pi",
        "comes from 'import *' of math",
    ),
    "star over a builtin": (
        "from math import *\ndef f(): return pow(2, 3)",
        "'pow', which comes from 'import *' of math",
    ),
    "imports that are alternatives": (
        "try:\n    import json as j\n    print()\nexcept ImportError:\n    import pickle as j\ndef f(): return j",
        "uses 'j', which is imported more than once, under conditions",
    ),
    "a condition of before": (
        "N = True\nif N:\n    import json as j\nelse:\n    import pickle as j\nN = False\ndef f(): return j",
        "needs an import under a condition on 'N', which is set more than once",
    ),
    "relative": (
        "try:\n    from . import a\nexcept ImportError:\n    a = 1\ndef f(): return a",
        "'a', a relative import",
    ),
    "file": ("def f(): return open(__file__)", "uses __file__, which on the worker is another file"),
    "globals": (
        "def f(): return globals()['x']",
        "calls globals(), which on the worker hold only what travels",
    ),
    "same name": (
        "def g(): return 1\ndef h(): return g()\ndef make():\n    def g(): return h()\n    return g\nf = make()",
        "has the name of another function of the file, g(), that is used",
    ),
    "private names": (
        "def _C__h(): ...\nclass C:\n    @staticmethod\n    def f(): return __h()\nf = C.f",
        "a name with two underscores in a class",
    ),
    "a helper that sets": (
        "N = 0\ndef g():\n    global N\n    N += 1\ndef f(): g()",
        "f() sets the global 'N', which Airflow would not see",
    ),
    "wrapped": (
        "import functools\ndef w(g):\n    @functools.wraps(g)\n    def inner(): return g()\n    return inner\n@w\ndef f(): ...",
        "is wrapped by another decorator",
    ),
    "cached": ("import functools\n@functools.cache\ndef f(): ...", "wants a function written with def"),
}


@pytest.mark.parametrize(("source", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_travel_is_refused_with_its_name(source: str, words: str, load: Load) -> None:
    with pytest.raises(TitanFunctionRefused) as caught:
        plan_shipment(load(source).f)
    assert words in str(caught.value)


DATES = "import datetime as d, functools, enum, collections\n"
NOT_PLAIN = {
    "default": (
        f"{DATES}def f(*, when=d.datetime(2020, 1, 1)): ...",
        "f() has a default for 'when', a datetime.datetime,",
    ),
    "a helper's default": (
        f"{DATES}def g(x, span=[d.timedelta(1)]): ...\ndef f(): return g(1)",
        "f() uses g(), which has a default for 'span'[0], a datetime.timedelta, which cannot travel",
    ),
    "a function in a dict": (
        "X = {'a': [print]}\ndef f(): return X",
        "the global 'X'['a'][0], a builtin_function",
    ),
    "a key": (
        f"{DATES}X = {{d.date(2020, 1, 1): 1}}\ndef f(): return X",
        "the global 'X', with a key, a datetime.date",
    ),
    "a text of another type": (
        "class S(str): ...\nX = [S('a')]\ndef f(): return X",
        "the global 'X'[0], a my_dag.S, which cannot",
    ),
    "an enum": (
        f"{DATES}class E(enum.IntEnum):\n    A = 1\nX = E.A\ndef f(): return X",
        "the global 'X', a my_dag.E",
    ),
    "a named tuple": (
        f"{DATES}T = collections.namedtuple('T', 'a')\nX = T(1)\ndef f(): return X",
        "'X', a my_dag.T",
    ),
    "a counter": (f"{DATES}X = collections.Counter()\ndef f(): return X", "'X', a collections.Counter"),
    "one in itself": ("X = []\nX.append(X)\ndef f(): return X", "'X'[0], which contains itself"),
    "too deep": (f"X = {'[' * 60}{']' * 60}\ndef f(): return X", "or is nested more than 50 deep"),
    "another name for a function": ("def g(): ...\nh = g\ndef f(): return h()", "the global 'h', a function"),
    "a lambda": ("h = lambda: 1\ndef f(): return h()", "the global 'h', a function"),
    "a partial": (f"{DATES}h = functools.partial(print)\ndef f(): return h()", "'h', a functools.partial"),
    "an import that is replaced": ("import json\njson = [json]\ndef f(): return json", "'json'[0], a module"),
    "a type alias": (
        "X = list[int]\ndef f():\n    def g(a: X): ...\n    return g",
        "'X', a types.GenericAlias",
    ),
}


@pytest.mark.parametrize(("source", "words"), NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_values_that_cannot_travel_are_refused_while_the_file_is_read(
    source: str, words: str, load: Load
) -> None:
    shipment = plan_shipment(load(source).f)
    for refuse in (shipment.check, shipment.script):
        with pytest.raises(TitanFunctionRefused) as caught:
            refuse()
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import json\ndef f(): return json.dumps(1)\ndel json",
            "uses 'json', which has no value when the task runs",
        ),
        (
            "def g(): ...\ndef f(): return g()\ndel g",
            "uses g(), which is no longer the function of its def when the task runs",
        ),
        ("X = 1\ndef f(): return X\nX = open", "uses the global 'X', a builtin_function_or_method"),
        (
            "def g(x=1): ...\ndef f(): return g()\ng.__defaults__ = (1, 2)",
            "which has other defaults than its def",
        ),
    ],
)
def test_what_changes_below_is_refused_when_the_task_runs(source: str, words: str, load: Load) -> None:
    with pytest.raises(TitanFunctionRefused) as caught:
        plan_shipment(load(source).f).script()
    assert words in str(caught.value)


def test_what_is_not_there_yet_may_still_come(load: Load) -> None:
    """As while the file is read: nothing below the function is known."""
    module = load("def f(): return [X, g(), Y]\ndef g(): return 1\nX = 1\nY = print\nY = 2\n")
    names = {name: vars(module).pop(name) for name in ("X", "g")}
    module.Y = print
    plan_shipment(module.f).check()
    vars(module).update(names, Y=2)
    assert run(module.f) == [1, 1, 2]


def test_files_beside_the_dag_file_are_refused_by_name(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "our_lib_xyz.py").write_text("def clean(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    module = load("from our_lib_xyz import clean\ndef f(): return clean()")
    with pytest.raises(
        TitanFunctionRefused, match=r"uses 'clean' of .*our_lib_xyz\.py, a file beside the DAG file"
    ):
        plan_shipment(module.f)
    sys.modules.pop("our_lib_xyz")


def test_a_module_without_a_file_lies_beside_nothing(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`os` comes with the interpreter, and its origin is no path: Airflow may have any current folder."""
    monkeypatch.chdir(tmp_path)
    assert run(load("import os\ndef f(): return os.sep").f) == "/"


def test_a_file_that_changed_since_it_was_imported_is_noticed(tmp_path: Path, load: Load) -> None:
    function = load("@mark()\ndef f(): return 1").f
    (tmp_path / "my_dag.py").write_text("# moved\n# down\n@mark()\ndef f(): return 2")
    with pytest.raises(TitanFunctionRefused, match="the file has changed since it was imported"):
        plan_shipment(function)


def test_without_a_source_file_the_reason_is_told() -> None:
    namespace: dict[str, Any] = {}
    exec("def f(): ...", namespace)
    with pytest.raises(TitanFunctionRefused, match=r"cannot find the source of f\(\)"):
        plan_shipment(namespace["f"])
