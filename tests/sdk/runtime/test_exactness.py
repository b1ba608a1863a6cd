"""Whatever the user passes arrives as it was given, whatever the file is called."""

from __future__ import annotations

import os

import pytest

from tests.support.runtime_bench import Bench

AWKWARD = (
    "two words",
    "",
    "a|b;c",
    "[x],{y}",
    "line\nbreak\ttab\r",
    "\"double\" 'single'",
    "$HOME `id` $(id) \\",
    "naïve 日本語 🎉",
    "-c",
    "--",
    "*",
    " edge ",
    "\x01\x7f",
)


def test_every_argument_arrives_exactly(bench: Bench) -> None:
    spec = bench.spec("import sys, titan_job\ntitan_job.result(sys.argv[1:])", argv=AWKWARD)
    assert bench.run(spec).code == 0
    assert bench.result(spec) == list(AWKWARD)


def test_shell_scripts_and_executables_get_exact_arguments_too(bench: Bench) -> None:
    for name, source in (
        ("args.sh", "printf '%s\\0' \"$@\""),
        ("args", "#!/bin/bash\nprintf '%s\\0' \"$@\""),
    ):
        done = bench.run(bench.spec(source, name, argv=AWKWARD))
        assert done.code == 0
        assert done.output == b"".join(word.encode() + b"\0" for word in AWKWARD)


def test_env_arrives_exactly_and_wins(bench: Bench) -> None:
    env = {"PLAIN": "x", "TEXT": "a=b;c|d\n'\"é", "EMPTY": "", "PATHLIKE": "/x:/y", "TITAN_ATTEMPT": "9"}
    spec = bench.spec("import os, titan_job\ntitan_job.result(dict(os.environ))", env=env)
    assert bench.run(spec, INHERITED="yes", EMPTY="not").code == 0
    seen = bench.result(spec)
    assert {name: seen[name] for name in env} == env
    assert seen["INHERITED"] == "yes"


def test_the_job_learns_who_it_is_and_where_the_master_is(bench: Bench) -> None:
    spec = bench.spec(
        "import os, titan_job\ntitan_job.result([dict(os.environ), titan_job.job_id, titan_job.attempt])"
    )
    assert bench.run(spec).code == 0
    env, job_id, attempt = bench.result(spec)
    assert (env["TITAN_HOST"], env["TITAN_PORT"]) == ("127.0.0.1", str(bench.store.port))
    assert env["TITAN_JOB_ID"] == job_id == "DAG-job"
    assert (env["TITAN_NONCE"], env["TITAN_ATTEMPT"], attempt) == (spec.nonce, "1", 1)
    assert env["PYTHONUNBUFFERED"] == "1"


def test_the_worker_is_named_as_it_calls_itself_else_by_its_host(bench: Bench) -> None:
    named, plain = bench.spec("pass"), bench.spec("pass")
    bench.run(named, TITAN_WORKER="GPU-1")
    bench.run(plain)
    assert (bench.state(named).worker, bench.state(named).host) == ("GPU-1", os.uname().nodename)
    assert bench.state(plain).worker == os.uname().nodename


@pytest.mark.parametrize(
    "params", [None, {"a": [1, 2.5, None, True, "é\n"]}, "text", 0, [], {"deep": {"er": [{}]}}, "x" * 300_000]
)
def test_params_arrive_exactly(bench: Bench, params: object) -> None:
    spec = bench.spec("import titan_job\ntitan_job.result(titan_job.params)", params=params)
    assert bench.run(spec).code == 0
    assert bench.result(spec) == params


def test_deeply_nested_params_do_not_stop_the_stub(bench: Bench) -> None:
    params: list[object] = []
    for _ in range(150):
        params = [params]
    spec = bench.spec("import titan_job\ntitan_job.result(titan_job.params)", params=params)
    assert bench.run(spec).code == 0
    assert bench.result(spec) == params


@pytest.mark.parametrize(
    "name", ["plain.py", "with space.py", "quo'te\"|;.py", "ünïcode-日本.py", "-x.py", "a.b.c.py"]
)
def test_the_script_keeps_its_own_name_and_lies_alone(bench: Bench, name: str) -> None:
    source = "import os, sys, titan_job\nhere = os.path.dirname(os.path.abspath(__file__))\n"
    source += "titan_job.result([__file__, sys.argv[0], sys.path[0], os.listdir(here), os.getcwd()])"
    spec = bench.spec(source, name)
    assert bench.run(spec).code == 0
    file, argv0, path0, neighbours, cwd = bench.result(spec)
    assert os.path.basename(file) == name
    assert file == argv0
    assert path0 == os.path.dirname(file)
    assert neighbours == [name]
    assert cwd == str(bench.shared)
    assert bench.leftovers() == []


def test_two_scripts_of_the_same_name_at_once_do_not_mix(bench: Bench) -> None:
    """Each is held inside its script until both are, so that they certainly overlap."""
    fifos = [bench.fifo("one"), bench.fifo("two")]
    source = "word = {0!r}; print(word); open({1!r}).read(); print(open(__file__).read()[:12])"
    specs = [
        bench.spec(source.format(word, str(fifo)), "main.py")
        for word, fifo in zip(("one", "two"), fifos, strict=True)
    ]
    running = [bench.start(spec) for spec in specs]
    # Opening for writing returns once the job reads.
    for fifo in fifos:
        fifo.open("w").close()
    assert [job.wait().text for job in running] == ["one\nword = 'one'\n", "two\nword = 'two'\n"]


def test_large_scripts_travel_as_assets(bench: Bench) -> None:
    filler = "".join(f"# {os.urandom(30).hex()}\n" for _ in range(2000))
    spec = bench.spec(filler + "print('ran')")
    assert spec.script.asset is not None
    assert bench.run(spec).text == "ran\n"


def test_stdin_is_empty_and_closed(bench: Bench) -> None:
    assert bench.run(bench.spec("import sys; print(repr(sys.stdin.read()))")).text == "''\n"


def test_output_is_passed_on_byte_for_byte_in_order(bench: Bench) -> None:
    source = "import os\nfor i in range(300):\n os.write(1 + i % 2, b'%d\\xff\\x00\\r' % i)\n"
    spec = bench.spec(source)
    expected = b"".join(b"%d\xff\x00\r" % i for i in range(300))
    assert bench.run(spec).output == expected
    assert bench.log(spec) == expected.decode("utf-8", "replace")


def test_a_module_left_in_the_workspace_shadows_nothing(bench: Bench) -> None:
    for folder in (bench.shared, bench.shared.parent):
        for module in ("os", "json", "zlib", "traceback", "titan_job"):
            (folder / f"{module}.py").write_text("raise SystemExit('shadowed')")
    done = bench.run(bench.spec("import json, os, titan_job\nprint('fine')"))
    assert (done.code, done.text) == (0, "fine\n")
