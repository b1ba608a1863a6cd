"""A script's folder may hold files called like modules: the runtime takes none of them, and the script all of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.sdk.runtime.test_projects import packed
from tests.sdk.runtime.test_pythons import NEW, interpreter
from tests.support.runtime_bench import Bench
from titan_sdk.runtime.spec import Script

# What the runtime's own parts import, at any time, with what that imports in turn.
NAMES = (
    "json", "traceback", "pickle", "reprlib", "warnings", "math", "re", "enum", "token", "tokenize", "linecache",
    "types", "copyreg", "struct", "functools", "collections", "operator", "keyword", "textwrap", "contextlib",
    "_json", "_titan_runner", "titan_job", "__future__",
)  # fmt: skip
LOUD = "print('shadowed by', __name__)\n"


@pytest.mark.parametrize(
    "name", ["json", "traceback", "token", "re", "pickle", "reprlib", "titan_job", "_titan_runner"]
)
def test_a_failing_script_called_like_a_module_runs_once_and_its_exception_is_known(
    bench: Bench, name: str
) -> None:
    done = bench.run(spec := bench.spec("print('ran')\nraise ValueError('mine')", f"{name}.py"))
    assert (done.code, done.text.count("ran\n")) == (1, 1)
    exception = bench.state(spec).exception
    assert exception is not None
    assert (exception.type, exception.message) == ("ValueError", "mine")


def test_a_script_called_like_the_runtimes_own_module_can_still_use_it(bench: Bench) -> None:
    spec = bench.spec(
        "import titan_job\nprint('ran')\ntitan_job.result(titan_job.params)", "titan_job.py", params=[1]
    )
    assert bench.run(spec).text == "ran\n"
    assert bench.result(spec) == [1]


OLDER = [version for version in NEW if int(version[2:]) < 13]
"""Later ones show an exception by their own traceback.py, or the one they find beside the script."""
ENDS = ["titan_job.result({'a': 1})", "raise ValueError('mine')", "titan_job.result([{1}, len])"]


@pytest.mark.parametrize(("end", "version"), [(end, "3.11") for end in ENDS] + [(ENDS[2], v) for v in OLDER])
def test_files_beside_the_script_called_like_modules_are_never_ours(
    bench: Bench, end: str, version: str
) -> None:
    main = f"import sys, titan_job\ntitan_job.params\ntitan_job.progress(0.5)\n{end}\n"
    bench.store.assets["p.zip"] = packed(("main.py", main), *((f"{name}.py", LOUD) for name in NAMES))
    spec = replace(bench.spec("", python=interpreter(version)), script=Script.in_archive("p.zip/main.py"))
    done = bench.run(spec)
    assert "shadowed" not in done.text
    if "raise" in end or "len" in end:
        assert bench.state(spec).exception is not None
    else:
        assert bench.result(spec) == {"a": 1}


def test_the_scripts_own_modules_stay_its_own(bench: Bench) -> None:
    """Also one of them that is in use when the runtime needs the standard library's."""
    main = """
import json, titan_job
assert json.MINE and titan_job.params == {"x": [1]}
try:
    titan_job.result({len})
except TypeError as exc:
    assert "cannot be carried" in str(exc)
import json as again, pickle, token
assert again is json and pickle.MINE and token.MINE
titan_job.result(("fine",))
"""
    own = ((f"{name}.py", "MINE = True") for name in ("json", "pickle", "token"))
    bench.store.assets["p.zip"] = packed(("main.py", main), *own)
    spec = replace(bench.spec("", params={"x": [1]}), script=Script.in_archive("p.zip/main.py"))
    done = bench.run(spec)
    assert done.code == 0, done.text
    assert bench.result(spec) == ("fine",)


def test_a_script_begins_with_the_modules_that_a_plain_python_has_loaded(bench: Bench) -> None:
    source = "import sys\nprint(sorted(name for name in sys.modules if 'titan' not in name and name != '__future__'))"
    plain = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout
    assert bench.run(bench.spec(source, python=sys.executable)).text == plain


def test_who_wants_no_folder_on_the_path_gets_none(bench: Bench) -> None:
    spec = bench.spec(
        "import sys, titan_job\ntitan_job.result(sys.path)", "job.py", env={"PYTHONSAFEPATH": "1"}
    )
    assert bench.run(replace(spec, python=interpreter("3.11"))).code == 0
    plain = subprocess.run(
        [interpreter("3.11"), "-P", "-c", "import sys; print(sys.path)"],
        capture_output=True,
        text=True,
        check=True,
        env={},
    ).stdout
    assert str([entry for entry in bench.result(spec) if "titan_runtime" not in entry]) == plain.strip()
