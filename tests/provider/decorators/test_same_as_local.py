"""A function gives on a worker what it gives where it is: each of these runs in both places.

`mark` stands for `@task.titan`: a decorator that returns the function itself. What cannot be the same is in
`test_shipping.py`, refused.
"""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_run import unique
from titan_provider.decorators.shipping import plan_shipment
from titan_sdk import TitanClient, TitanJob

CASES: dict[str, str] = {
    # -- defaults are the function's own
    "defaults of a loop": """
        made = []
        for n, limit in {"a": 1, "b": 2}.items():
            @mark(task_id=f"w_{n}")
            def work(limit=limit, *, name=n): return [limit, name]
            made.append(work)
        f = made[0]
    """,
    "a default whose name is set again": "SIZE = 10\n@mark()\ndef f(size=SIZE): return [size, SIZE]\nSIZE = 99\n",
    "a helper's defaults": """
        STEP = 1
        def helper(x, step=STEP, *, scale=(STEP, 2.5)): return [x + step, scale, type(scale).__name__]
        STEP = 5
        @mark()
        def f(): return helper(1)
    """,
    "a helper below": "@mark()\ndef f(): return g()\nN = 1\ndef g(n=N): return n\nN = 2\n",
    "helpers of a loop": """
        for n in (1, 2, 3):
            def g(n=n): return n
        @mark()
        def f(): return [g(), n]
    """,
    "defaults of inner functions": """
        N = 3
        @mark()
        def f():
            def inner(n=N, *, m=N + 1): return [n, m, (lambda k=N: k)()]
            return inner()
        N = 7
    """,
    "awkward defaults": '''
        @mark()
        def f(a=1, b: int=-2, c = (
                3,  # with a comment
                "x:->"), /, d: "Nope" = {"k": [1, {2}]}, *rest, e=f"{1 + 1}", g: dict[str,
                int] = dict(a=1), h="""two
          lines""", i=1e400, j=-1e400, k=1j, **more) -> dict[
                str, int]:
            return repr([a, b, c, d, rest, e, g, h, i, j, k, more])
    ''',
    "defaults of every plain type": """
        @mark()
        def f(a=None, b=True, c=10**5000, d=b"x\\x00", e=frozenset({1}), g=frozenset(), h=set(), i=range(3), j=...,
              k=bytearray(b"y"), l=(1,), m=(), n=float("nan"), o="\\ud800 \\u2028 ü 'q' \\"", p=-0.0):
            return [repr([a, b, c % 7, d, e, g, h, i, j, k, l, m, n, p]), ascii(o)]
    """,
    "a default made by a call": "import os\n@mark()\ndef f(a=len('abc'), b=os.sep * 2): return [a, b]\n",
    "a default that is changed by calls": "@mark()\ndef f(x=[]):\n    x.append(1)\n    return [list(x) for _ in range(2)]\n",
    "defaults replaced by hand": "@mark()\ndef f(x=1): return x\nf.__defaults__ = (5,)\n",
    # -- one object stays one object
    "shared between names": "A = [1]\nB = A\n@mark()\ndef f():\n    A.append(2)\n    return B\n",
    "shared with a default": """
        CACHE = {}
        def remember(key, cache=CACHE): cache[key] = True
        @mark()
        def f():
            remember("k")
            return list(CACHE)
    """,
    "shared inside": "ROW = [0]\nGRID = {'a': ROW, 'b': (ROW, [ROW])}\n@mark()\ndef f():\n    GRID['a'].append(1)\n    return GRID\n",
    # -- statements of import
    "parts of a package": """
        import urllib.parse
        import urllib.request
        import logging, xml.dom.minidom
        import logging.handlers
        import xml.sax.saxutils
        @mark()
        def f():
            return [urllib.parse.quote("ü"), urllib.request.Request("http://x/").host, logging.handlers.DEFAULT_TCP_LOGGING_PORT,
                    xml.sax.saxutils.escape("<"), xml.dom.minidom.parseString("<a/>").documentElement.tagName]
    """,
    "a part that another import loads": """
        import concurrent, xml
        import concurrent.futures as _unused
        from xml.etree import ElementTree as _also_unused
        @mark()
        def f(): return [concurrent.futures.FIRST_COMPLETED, xml.etree.ElementTree.fromstring("<a/>").tag]
    """,
    "an import replaced by another": "import json as j\nimport pickle as j\n@mark()\ndef f(): return j.__name__\n",
    "a from-import replaced": "from os.path import join\nfrom shlex import join\n@mark()\ndef f(): return join(['a b'])\n",
    "an import as": "import os.path as p, collections as c\nfrom collections import OrderedDict as O\n@mark()\ndef f(): return [p.basename('a/b'), c.OrderedDict is O]\n",
    "imports in try": """
        try:
            import no_such_module as fast
        except ImportError:
            fast = None
        try:
            import json as best
            HAVE = True
        except ImportError:
            HAVE = False
        @mark()
        def f(): return [fast, best.dumps({}), HAVE]
    """,
    "imports in if": """
        import sys
        NEW = sys.version_info >= (3, 8)
        if NEW:
            from shlex import quote
        else:
            from pipes import quote
        @mark()
        def f(): return quote("a b")
    """,
    "an import under a condition with more in it": "import os\nif os.sep:\n    import json\n    X = [1]\n@mark()\ndef f(): return [json.dumps(X), X]\n",
    "an import in with": "import contextlib\nwith contextlib.suppress(ImportError):\n    import json\n@mark()\ndef f(): return json.dumps(1)\n",
    "tried and then set": "try:\n    import no_such\nexcept ImportError:\n    no_such = None\nno_such = 3\n@mark()\ndef f(): return no_such\n",
    "type checking with another branch": """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from decimal import Decimal
        else:
            Decimal = None
        @mark()
        def f(): return Decimal
    """,
    "imports inside": "@mark()\ndef f():\n    import math as m\n    from os import path\n    return [m.floor(1.5), path.basename('a/b')]\n",
    # -- names as the compiler sees them
    "a class attribute called like a global": """
        RATE = 3
        @mark()
        def f():
            class Cfg:
                RATE = 5
                old = RATE
            return [RATE, Cfg.RATE, Cfg.old]
    """,
    "a class attribute from the global": "RATE = 3\n@mark()\ndef f():\n    class Cfg:\n        RATE = RATE\n        x = y = 1\n        z = x + y\n    return [Cfg.RATE, Cfg.z]\n",
    "annotations inside, kept as texts": """
        from __future__ import annotations
        Frame = object()
        @mark()
        def f() -> Frame:
            def inner(x: Frame, y: Missing = 2) -> Frame: return [x, y]
            class Row:
                frame: Frame
                def method(self, other: Row) -> Missing: return other
            local: Frame = 1
            return inner(local)
    """,
    "annotations inside, evaluated": "from typing import List\nAlias = 3\n@mark()\ndef f():\n    def inner(x: List[int], y: Alias = 2) -> Alias: return y\n    return [inner(1), inner.__annotations__['y']]\n",
    "a dataclass inside, with texts": """
        from __future__ import annotations
        import dataclasses, typing as t
        from dataclasses import InitVar, dataclass, field
        from typing import ClassVar
        @mark()
        def f():
            @dataclass(order=True)
            class Point:
                limit: ClassVar[int] = 9
                top: t.ClassVar[int] = 8
                x: int
                y: list[int] = field(default_factory=list)
                z: InitVar[int] = 1
                def __post_init__(self, z): self.x += z
            return [dataclasses.asdict(Point(1, z=5)), [each.name for each in dataclasses.fields(Point)]]
    """,
    "scopes": """
        LIMIT, OTHER, x = 2, 3, 40
        @mark()
        def f(rows=(1, 2, 3)):
            count = 0
            def add():
                nonlocal count
                count += LIMIT
                return [x for x in range(count)]
            found = {k: v for k, v in zip("ab", rows)}
            if (total := sum(y * OTHER for y in rows)) > 1:
                more = [last := n for n in rows if n != x]
            first, *rest = rows
            try: 1 / 0
            except ZeroDivisionError as exc: words = str(exc)
            with open("/dev/null") as handle, handle: pass
            for LOCAL in rows: pass
            del first
            return [add(), add(), found, total, more, last, rest, words, LOCAL, (lambda a, *b, c=LIMIT: [a, b, c])(1, 2)]
    """,
    "match": """
        KIND = "point"
        class_name = "ignored"
        @mark()
        def f(shape={"kind": "point", "at": [1, 2], "more": 3}):
            match shape:
                case {"kind": str(kind), "at": [first, *rest], **others} if kind == KIND: return [kind, first, rest, others]
                case _: return None
    """,
    "classes inside, with inheritance": """
        BASE = 10
        def scaled(n): return n * BASE
        @mark()
        def f():
            class A:
                factor = scaled(1)
                def __init__(self, n): self.n = n
                @property
                def value(self): return self.n * self.factor
                @classmethod
                def make(cls): return cls(2)
                @staticmethod
                def plain(): return BASE
            class B(A):
                factor = A.factor + 1
                @property
                def value(self): return super().value + self.__hidden()
                def __hidden(self): return BASE
            return [A(1).value, B.make().value, B.plain(), B.__mro__[1].__name__]
    """,
    "names bound in many ways": """
        import contextlib
        with contextlib.nullcontext(5) as opened: pass
        for index, (left, right) in enumerate([(1, 2), (3, 4)]): pass
        [first, *others] = [7, 8, 9]
        if (walrus := 6): pass
        total = 0
        while total < 4: total += 1
        match {"m": 11}:
            case {"m": matched, **unmatched}: pass
        def setup():
            global late, total
            late, total = "late", total + 1
        setup()
        globals()["dynamic"] = {"d": 1}
        typed: int = 12
        one = two = [1]; three = 3
        @mark()
        def f(): return [opened, index, left, right, first, others, walrus, total, matched, unmatched, late, dynamic,
                         typed, one is two, three]
    """,
    "a builtin replaced": "sum = 'mine'\nglobals()['abs'] = 'too'\n@mark()\ndef f(): return [sum, abs, len('x')]\n",
    "module texts": '"""About this file."""\n@mark()\ndef f(): return __doc__\n',
    # -- helpers
    "helpers call each other": """
        @mark()
        def f(): return [even(5), fact(5), list(numbers(3)), sorted(["b", "A"], key=lower)]
        def even(n): return True if not n else odd(n - 1)
        def odd(n): return False if not n else even(n - 1)
        def fact(n): return 1 if n < 2 else n * fact(n - 1)
        def numbers(n):
            yield from range(n)
        def lower(text): return text.lower()
    """,
    "a function calls itself": "@mark()\ndef f(n=3): return 0 if not n else n + f(n - 1)\n",
    "a helper defined under a condition": "import sys\nif sys.version_info > (3,):\n    def g(): return 'new'\n@mark()\ndef f(): return g()\n",
    "a helper that is async": "import asyncio\nasync def g(n):\n    await asyncio.sleep(0)\n    return n\n@mark()\ndef f(): return asyncio.run(g(3))\n",
    "helpers on adjacent lines": """
        if True:
            def a(): return 1
            def b(): return a() + 1
            X = 5
            def c(text='''x
              y'''): return [text, '''p
        q''', X]
            if True:
                def d(): return (
            "less indented")
                def e(): return f'''r
                  {X}
            s'''
            @mark()
            def f(): return [a(), b(), c(), d(), e()]
    """,
    "indented, with texts and comments": """
        def make():
            if True:
                @mark(
                    requirement="GPU",
                )
                def train(n=1):
            # less indented
                    text = "a \\
        b"
                    long = '''
            kept
        ünï''' + f'''{n}
            '''
                    return [text, long, n]
                return train
        f = make()
    """,
    "inside a class": "class Jobs:\n    @staticmethod\n    @mark()\n    def f(): return 5\nf = Jobs.f\n",
    "recursion in a factory": "def make():\n    @mark()\n    def g(n=3): return 0 if not n else n + g(n - 1)\n    return g\nf = make()\n",
    "functools inside": """
        import functools
        def power(base, exponent): return base ** exponent
        @mark()
        def f():
            @functools.lru_cache
            def cached(n): return n if n < 2 else cached(n - 1) + cached(n - 2)
            return [functools.partial(power, exponent=2)(3), cached(20), functools.reduce(lambda a, b: a + b, [1, 2])]
    """,
    "processes of its own": """
        import concurrent.futures as cf
        import multiprocessing as mp
        def double(n): return n * 2
        @mark()
        def f():
            with mp.get_context("spawn" if __name__ == "__main__" else "fork").Pool(1) as pool, cf.ThreadPoolExecutor(1) as threads:
                return [pool.map(double, [1, 2]), list(threads.map(double, [3]))]
    """,
    "a name of the module that only a call sees": "import collections\ndef g(): return collections.abc.Sized.__name__\n@mark()\ndef f(): return g()\n",
    "imports over several lines": """
        from os import (
            path as p,  # why
            sep,
        )
        import json; A = 1; B = 2; import math
        @mark()
        def f(): return [p.basename("a/b"), sep, A, B, json.dumps(1), math.floor(2.5)]
    """,
    "tries in tries": """
        try:
            import nope1 as q
        except ImportError:
            try:
                import nope2 as q
            except ImportError:
                import json as q
        else:
            from json import dumps
        finally:
            pass
        @mark()
        def f(): return q.__name__
    """,
    "comments in a signature": """
        @mark()
        def f(
            a=1,  # one
            # two
            b=(  # three
                2
                # four
            ),
            c: int  # five
            = 3,
            d = \\
                (*range(3), {**{"x": 1}}), g="a" "b",
        ) -> dict[  # six
            str, int
        ]: return [a, b, c, d, g]
    """,
    "named tuples and enums inside": """
        from __future__ import annotations
        import enum, typing
        from typing import NamedTuple, Optional, TypedDict
        @mark()
        def f():
            class Row(NamedTuple):
                x: Optional[int] = 1
            class Kind(enum.Enum):
                A = enum.auto()
                B = A
            class Dict(TypedDict):
                a: Optional[str]
            return [Row().x, str(typing.get_type_hints(Row)["x"]), Kind.B.name, Dict(a="b")]
    """,
    "none": "@mark()\ndef f(): pass\n",
}


def load(name: str, folder: Path) -> Any:
    """The case's module, as Airflow imports a DAG file."""
    path = folder / f"{name.replace(' ', '_').replace(',', '')}.py"
    path.write_text(textwrap.dedent(CASES[name]), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module)["mark"] = lambda *_, **__: lambda function: function
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def remote(
    cluster: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Callable[[], Any], Any]]:
    """Of each case the function, and the report of its job."""
    folder = tmp_path_factory.mktemp("cases")
    functions, jobs = {}, {}
    for name in CASES:
        # While the file is read, and again when the task runs.
        functions[name] = load(name, folder).f
        plan_shipment(functions[name]).check()
        shipment = plan_shipment(functions[name])
        path = folder / shipment.file_name
        path.write_text(shipment.script(), encoding="utf-8")
        jobs[name] = TitanJob(unique("case"), str(path), params={"args": [], "kwargs": {}})
    with TitanClient(cluster.host, cluster.port) as client:
        for job in jobs.values():
            client.submit_job(job)
        reports = {
            name: client.wait_for_job(job.job_id, timeout=120, raise_on_failure=False)
            for name, job in jobs.items()
        }
    return {name: (functions[name], reports[name]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_worker_returns_what_a_local_call_returns(
    remote: dict[str, tuple[Callable[[], Any], Any]], name: str
) -> None:
    function, report = remote[name]
    assert report.state == "COMPLETED", report.exception and report.exception.traceback
    assert report.result == function()
