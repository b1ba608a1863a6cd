"""How a job ends is what its state record, the launcher's exit code and the output say, all three."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.runtime_bench import Bench

FAILING = """
import sys
def inner(x):
    raise {raised}
def outer():
    try:
        {{}}["missing"]
    except KeyError:
        inner(1)
print("before", flush=True)
outer()
"""


def directly(bench: Bench, source: str, tmp_path: Path) -> tuple[int, bytes]:
    """Exit code and output of `python -u job.py`, for comparison."""
    script = tmp_path / "direct" / "job.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(source)
    done = subprocess.run(
        [sys.executable, "-u", str(script)],
        cwd=bench.shared,
        env=bench.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    return done.returncode, done.stdout.replace(str(script.parent).encode(), b"FOLDER")


def through_runtime(bench: Bench, source: str) -> tuple[int, bytes]:
    spec = bench.spec(source, python=sys.executable)
    done = bench.run(spec)
    exception = bench.state(spec).exception
    folder = exception.traceback.partition('File "')[2].partition("/job.py")[0] if exception else ""
    return done.code, done.output.replace(folder.encode(), b"FOLDER") if folder else done.output


@pytest.mark.parametrize("code", [0, 1, 2, 3, 97, 98, 255])
def test_exit_codes_pass_through(bench: Bench, code: int) -> None:
    spec = bench.spec(f"import sys; sys.exit({code})")
    assert bench.run(spec).code == code
    state = bench.state(spec)
    assert (state.state, state.exit_code, state.signal) == ("failed" if code else "succeeded", code, None)
    assert state.exception is None
    assert state.started_at is not None
    assert state.ended_at is not None
    assert state.ended_at >= state.started_at


@pytest.mark.parametrize("value", ["'a text'", "None", "True", "256", "-1", "2**40", "[1]", "''"])
def test_sys_exit_with_anything_ends_as_it_does_without_the_runtime(
    bench: Bench, value: str, tmp_path: Path
) -> None:
    source = f"import sys\nsys.exit({value})"
    assert through_runtime(bench, source) == directly(bench, source, tmp_path)


@pytest.mark.parametrize(
    "raised",
    [
        "ValueError('no')",
        "KeyError",
        "MemoryError()",
        "type('Own', (Exception,), {})('é')",
        "GeneratorExit()",
    ],
)
def test_tracebacks_look_as_without_the_runtime(bench: Bench, raised: str, tmp_path: Path) -> None:
    source = FAILING.format(raised=raised)
    assert through_runtime(bench, source) == directly(bench, source, tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "def broken(:\n    pass\n",
        "# -*- coding: latin-1 -*-\nprint('caf\xe9')\nraise ValueError('caf\xe9')\n",
        "import sys\nsys.excepthook = lambda t, v, tb: print('mine', t.__name__, tb.tb_next, v.__traceback__ is tb)\n1/0\n",
        "import atexit, threading\natexit.register(print, 'last')\nthreading.Thread(target=lambda: (threading.main_thread().join(), print('thread'))).start()\n1/0\n",
        "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])\n",
        "class Bad(Exception):\n    def __str__(self): raise RuntimeError('in str')\nraise Bad\n",
    ],
)
def test_odd_failures_look_as_without_the_runtime(bench: Bench, source: str, tmp_path: Path) -> None:
    assert through_runtime(bench, source) == directly(bench, source, tmp_path)


def test_an_uncaught_exception_is_recorded_with_its_parts(bench: Bench) -> None:
    spec = bench.spec(FAILING.format(raised="ValueError('no', 2)"))
    assert bench.run(spec).code == 1
    exception = bench.state(spec).exception
    assert exception is not None
    assert (exception.type, exception.message) == ("ValueError", "('no', 2)")
    assert "KeyError: 'missing'" in exception.traceback
    assert exception.traceback.rstrip().endswith("ValueError: ('no', 2)")
    assert "_titan_runner" not in exception.traceback


def test_an_exception_of_a_forked_child_is_not_the_jobs(bench: Bench) -> None:
    spec = bench.spec("import os\nif os.fork() == 0:\n    raise ValueError('child')\nos.wait()")
    assert bench.run(spec).code == 0
    assert bench.state(spec).exception is None


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM", "SIGABRT", "SIGUSR1", "SIGPIPE"])
def test_a_signal_is_recorded_by_name(bench: Bench, name: str) -> None:
    spec = bench.spec(
        f"import os, signal, resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\nsignal.signal(signal.{name}, signal.SIG_DFL) if '{name}' != 'SIGKILL' else 0\nos.kill(os.getpid(), signal.{name})"
    )
    assert bench.run(spec).code == 128 + getattr(signal, name)
    state = bench.state(spec)
    assert (state.state, state.exit_code, state.signal) == ("failed", None, name)
    assert state.reason is not None


def test_sigpipe_and_friends_have_their_default_meaning(bench: Bench) -> None:
    done = bench.run(bench.spec("yes | head -1; echo ${PIPESTATUS[0]}", "pipe.sh"))
    assert done.text == "y\n141\n"


def test_keyboard_interrupt_ends_by_sigint(bench: Bench) -> None:
    spec = bench.spec("raise KeyboardInterrupt")
    assert bench.run(spec).code == 130
    assert bench.state(spec).signal == "SIGINT"


def test_a_job_over_its_time_is_ended_and_says_so(bench: Bench) -> None:
    spec = bench.spec("import time\ntime.sleep(60)", timeout=0.3)
    done = bench.run(spec)
    state = bench.state(spec)
    assert done.code == 143
    assert (state.state, state.signal, state.exit_code) == ("failed", "SIGTERM", None)
    assert state.reason == "it ran longer than its timeout of 0.3 s and was ended"


def test_a_job_over_its_time_fails_even_if_it_then_exits_with_0(bench: Bench) -> None:
    ready = bench.shared / "ready"
    source = f"import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nopen({str(ready)!r}, 'w').close()\ntime.sleep(60)"
    for seconds in (0.5, 5.0, 20.0):
        spec = bench.spec(source, timeout=seconds)
        done = bench.run(spec)
        if ready.exists():  # in time to catch the signal; a busy machine may be slower
            break
    assert done.code == 124
    assert (bench.state(spec).state, bench.state(spec).exit_code) == ("failed", 0)


def test_sigterm_to_the_launcher_stops_the_job(bench: Bench) -> None:
    fifo = bench.fifo()
    spec = bench.spec(f"import time\nopen({str(fifo)!r}, 'w').close()\ntime.sleep(60)")
    running = bench.start(spec)
    fifo.open().close()
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait().code == 143
    state = bench.state(spec)
    assert (state.state, state.signal) == ("failed", "SIGTERM")
    assert state.reason == "stopped: the job was sent SIGTERM"
    assert bench.log(spec) == "titan-runtime: stopped: the job was sent SIGTERM\n"


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(bench: Bench) -> None:
    fifo = bench.fifo()
    spec = bench.spec(
        f"import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen({str(fifo)!r}, 'w').close()\ntime.sleep(60)"
    )
    running = bench.start(spec, TITAN_RUNTIME_GRACE="0.2")
    fifo.open().close()
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait().code == 137
    assert bench.state(spec).signal == "SIGKILL"


@pytest.mark.parametrize(
    ("source", "code", "told"),
    [
        ("#!/no/such/interpreter\n", 98, "its first line names /no/such/interpreter, which this worker does"),
        (b"\x7fELF\0no program", 126, "the worker cannot start it: "),
    ],
)
def test_what_the_worker_cannot_start_is_told(
    bench: Bench, source: str | bytes, code: int, told: str
) -> None:
    spec = bench.spec(source, "program")
    done = bench.run(spec)
    assert done.code == code
    state = bench.state(spec)
    assert state.state == "failed"
    assert state.reason is not None
    assert told in state.reason
    assert state.reason in done.text


def test_private_files_are_gone_however_the_job_ended(bench: Bench) -> None:
    source = "import os\nos.makedirs(os.environ['TITAN_JOB_DIR'] + '/a/b')\nopen(os.environ['TITAN_JOB_DIR'] + '/a/c', 'w')\n"
    for ending in ("", "1/0", "os.kill(os.getpid(), 9)"):
        bench.run(bench.spec(source + ending))
        assert bench.leftovers() == []
