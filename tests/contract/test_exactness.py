"""What a script gets, does and leaves is the same on every master."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.blocking_async import BlockingAsyncClient
from tests.support.flaky_proxy import FlakyProxy
from titan_sdk import ClientConfig, JobStatus, TitanClient, TitanJob

# Slow: Hundreds of thousands of lines and values of megabytes.
pytestmark = pytest.mark.slow

NAMES = [
    "two words.py",
    "a;b|c.py",
    "[x],y.py",
    "日本é.py",
    "quo'te\".py",
    "new\nline.py",
    "-dash.py",
    "INTERNAL_SCALE.py",
]
ECHO = "import os, sys, titan_job\ntitan_job.result([os.path.basename(__file__), sys.argv[0] == __file__, sys.argv[1:]])"
FORK = """
import os, sys, titan_job
child = os.fork()
if child == 0:
    print("child", flush=True)
    os._exit(7)
_, status = os.waitpid(child, 0)
print("parent", flush=True)
titan_job.result(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_file_may_have_any_name(api, unique, script, name):
    handle = api.submit_job(TitanJob(unique("named"), script(ECHO, name), args=["x"]))
    assert handle.wait(timeout=300).result == [name, True, ["x"]]


@pytest.mark.parametrize(
    ("args", "argv"),
    [
        (None, []),
        ("", []),
        ([], []),
        ([""], [""]),
        ("a\tb\nc d", ["a\tb\nc", "d"]),
        (["a" * 20_000, "\u2028", "\\n", "%s", "*", "~"], ["a" * 20_000, "\u2028", "\\n", "%s", "*", "~"]),
    ],
    ids=["none", "empty text", "empty list", "one empty", "whitespace", "odd"],
)
def test_arguments_arrive_one_by_one(api, unique, script, args, argv):
    handle = api.submit_job(TitanJob(unique("args"), script(ECHO), args=args))
    assert handle.wait(timeout=300).result[2] == argv


@pytest.mark.parametrize("code", [0, 1, 2, 97, 98, 128, 255])
def test_any_exit_code_comes_back(api, unique, script, code):
    handle = api.submit_job(TitanJob(unique("exits"), script(f"import sys; sys.exit({code})")))
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert report.exit_code == code
    assert report.state is (JobStatus.DEAD if code else JobStatus.COMPLETED)
    assert report.attempts == 1


def test_a_text_as_exit_code_is_printed_and_means_1(api, unique, script):
    handle = api.submit_job(TitanJob(unique("words"), script("import sys; sys.exit('no more é')")))
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert (report.exit_code, report.log_tail) == (1, "no more é")


def test_a_script_may_fork(api, unique, script):
    handle = api.submit_job(TitanJob(unique("forks"), script(FORK)))
    assert handle.wait(timeout=300).result == 7
    assert handle.logs() == "child\nparent\n"


def test_env_names_and_values_arrive(api, unique, script):
    env = {"A": "", "B": "x=y;z|[q]", "lower.dotted-ö": "新\nline", "PATH_LIKE": "$HOME:`id`"}
    source = script(
        f"import os, titan_job; titan_job.result({{k: os.environ.get(k) for k in {list(env)!r}}})"
    )
    assert api.submit_job(TitanJob(unique("env"), source, env=env)).wait(timeout=60).result == env


def test_a_large_result_comes_back(api, unique, script):
    source = script("import titan_job; titan_job.result(['\"é' * 2_000_000, 'x' * 9_000_000])")
    result = api.submit_job(TitanJob(unique("large"), source)).wait(timeout=90).result
    assert result == ['"é' * 2_000_000, "x" * 9_000_000]


def test_an_output_over_the_packet_limit_does_not_lose_the_jobs_end(api, unique, script):
    """A real worker's report carries the whole output, and one over 10 MiB never arrives (hazard 18)."""
    handle = api.submit_job(TitanJob(unique("loud"), script("for i in range(12): print(str(i) * 1_000_000)")))
    assert handle.wait(timeout=300).state is JobStatus.COMPLETED
    assert [len(line) for line in handle.logs().splitlines()] == [1_000_000] * 10 + [2_000_000] * 2


@pytest.mark.parametrize("connect", [TitanClient, BlockingAsyncClient], ids=["sync", "async"])
def test_100_000_lines_are_followed_once_each_through_broken_connections(cluster, unique, script, connect):
    # Slow enough for several chunks and many questions.
    source = script("import time\nfor i in range(100_000):\n    print(i)\n    i % 4000 or time.sleep(0.1)")
    config = {"keep_alive": False}
    with FlakyProxy(cluster.host, cluster.port, every=3, keep=5) as proxy:
        with TitanClient(cluster.host, cluster.port) as direct:
            submitted = direct.submit_job(TitanJob(unique("lines"), source))
        with connect(config=ClientConfig("127.0.0.1", proxy.port, **config)) as api:
            handle = api.job_handle(submitted.job_id, submitted.nonce)
            assert list(handle.follow_logs()) == [str(i) for i in range(100_000)]
    assert proxy.broken


def python(version: str) -> str:
    for path in sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")):
        if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return str(path)
    pytest.skip(f"no Python {version} on this machine")


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13"])
def test_the_worker_may_have_any_python_from_3_8_on(client, unique, script, version):
    source = script("import sys, titan_job; titan_job.result('%d.%d' % sys.version_info[:2])")
    handle = client.submit_job(TitanJob(unique("python"), source, python=python(version)))
    assert handle.wait(timeout=300).result == version


def test_a_python_that_is_not_there_is_named(client, unique, script):
    handle = client.submit_job(TitanJob(unique("python"), script("pass"), python="/no/such/python"))
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert "/no/such/python" in report.describe()
    assert not report.never_started
