"""A fork of the warm runner against a new interpreter: the same script must not see which of them it is in."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.sdk.cluster.engines.bench import Bench
from titan_sdk.cluster.engines.base import RunResult

ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/"}

TALKER = "class A:\n def __del__(self): print('gone')\na = A()\n"
PROBES = {
    "modules": "import sys; print(sorted(sys.modules))",
    "main": "print(sorted(globals()), __name__, type(__loader__).__name__, __spec__, __doc__, __cached__)",
    "annotated": "x: int = 1\nprint(__annotations__)",
    "future": "def f(x: Unknown): pass",
    "arguments": "import sys, os; print(len(sys.argv), sys.argv[1:], sys.orig_argv[1], len(sys.orig_argv))",
    "flags": "import sys; print(sys.flags, sys.warnoptions, sys._xoptions, sys.dont_write_bytecode)",
    "paths": "import sys; print(sys.path[1:], sys.prefix, sys.executable, len(sys.meta_path), len(sys.path_hooks))",
    "streams": (
        "import sys\nfor f in (sys.stdin, sys.stdout, sys.stderr):\n"
        " print(f.fileno(), f.mode, f.encoding, f.errors, f.line_buffering, f.write_through, f.isatty())"
    ),
    "signals": "import signal; print([(s.name, signal.getsignal(s)) for s in sorted(signal.valid_signals())"
    " if isinstance(s, signal.Signals)], signal.set_wakeup_fd(-1), signal.pthread_sigmask(0, []))",
    "files": "import os; print(sorted(os.listdir('/proc/self/fd')))",
    "threads": "import threading; print(threading.main_thread() is threading.current_thread(), threading.active_count())\n"
    "t = threading.Thread(target=print, args=('in it',)); t.start(); t.join()",
    "environment": "import os; print(sorted(set(os.environ) - {'TITAN_RUN'}), os.environ['TITAN_RUN'])",
    "group": "import os; print(os.getpid() == os.getsid(0) == os.getpgid(0), os.umask(0))",
    "limits": "import resource as r; print([r.getrlimit(n) for n in (r.RLIMIT_NOFILE, r.RLIMIT_STACK, r.RLIMIT_CORE)])",
    "error": "def f():\n 1 / 0\nf()",
    "syntax": "x = (\n",
    "chained": "try:\n 1 / 0\nexcept ZeroDivisionError:\n raise KeyError('x')",
    "hook": "import sys; sys.excepthook = lambda *a: print('mine', a[0].__name__); raise ValueError",
    "exit text": "import sys; sys.exit('a last word')",
    "exit in a thread": "import threading, os; threading.Thread(target=os._exit, args=(5,)).start()",
    "system exit": "raise SystemExit(300)",
    "atexit": "import atexit; atexit.register(print, 'at the end'); print('before')",
    "del at exit": "class A:\n def __del__(self): print('gone')\na = A()",
    "del at exit of an object in a cycle": f"{TALKER}a.own = a",
    "del at exit of an object out of the collector's sight": f"{TALKER}class B(A): __slots__ = ()\nb = B()",
    "del at exit of an object in a module of the interpreter": f"{TALKER}import os\nos.left = a; del a",
    "del at exit of an object in an imported module": f"{TALKER}import json\njson.left = a; del a",
    "generator at exit": "def f():\n try: yield\n finally: print('gone')\ng = f(); next(g)",
    "weak reference at exit": "import weakref\nclass A: pass\na = A(); r = weakref.ref(a, lambda r: print('gone'))",
    "finalizer at exit": "import weakref\nclass A: pass\na = A(); weakref.finalize(a, print, 'gone')",
    "unwritten at exit": "f = open('/proc/self/fd/1', 'a'); f.write('written late')",
    "unwritten in C at exit": "import ctypes; ctypes.CDLL(None).printf(b'written late')",
    "thread after the script": "import threading, atexit\natexit.register(print, 'handler')\n"
    "threading.Thread(target=lambda: (threading.main_thread().join(), print('thread'))).start(); print('script')",
    "daemon thread at exit": "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
    "handlers": "import atexit\natexit.register(print, 1); atexit.register(divmod, 1, 0); atexit.register(print, 2)\n"
    "raise SystemExit(3)",
    "handlers called by the script": "import atexit\natexit.register(print, 1); atexit._run_exitfuncs(); print(2)",
    "handlers forgotten by the script": "import atexit\natexit.register(print, 1); atexit._clear(); print(2)",
    "handler that exits": "import atexit, sys\natexit.register(sys.exit, 7)",
    "exit in a handler": "import atexit, os\natexit.register(os._exit, 7)",
    "exit codes": "import os, sys\nfor code in (None, True, -1, 256, 2**70, -2**70, '', (1, 2)):\n"
    " pid = os.fork()\n if not pid: sys.exit(code)\n print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
    "another stdout": "import io, sys\nsys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, closefd=False)))\n"
    "print('buffered')",
    "no stdout": "import sys\nprint('x'); sys.stdout = None",
    "closed stdout": "import sys\nprint('x'); sys.stdout.close()",
    "full stdout": "import sys\nsys.stdout = open('/dev/full', 'w'); print('lost')",
    "interrupt": "raise KeyboardInterrupt",
    "interrupt with a handler": "import atexit\natexit.register(print, 'at the end')\nraise KeyboardInterrupt",
    "imports": "import json, re, logging, subprocess, tempfile, datetime, decimal, typing, hashlib; print('done')",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "aborted": "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
    "broken pipe": "import os; r, w = os.pipe(); os.close(r); os.write(w, b'x')",
    "fork": "import os\npid = os.fork()\nprint('child' if not pid else os.waitpid(pid, 0)[1], flush=True)",
    "pool": "import multiprocessing as m\nif __name__ == '__main__':\n with m.get_context('fork').Pool(2) as p:"
    "\n  print(p.map(abs, [-1, -2]))",
    "spawn": "import multiprocessing as m\ndef f(x): return x + 1\nif __name__ == '__main__':\n"
    " with m.get_context('spawn').Pool(1) as p:\n  print(p.map(f, [1]))",
    "pickle": "import pickle\nclass A: x = 1\nprint(pickle.loads(pickle.dumps(A())).x, A.__module__)",
    "source": "import inspect\ndef f(): return 1\nprint(inspect.getsource(f))",
    "dataclass": "import dataclasses\n@dataclasses.dataclass\nclass A:\n x: int = 1\nprint(A())",
    "nul": "x = '\\0'; print(len(x))",
    "coding": "# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))",
    "asyncio": "import asyncio\nasync def f(): return 3\nprint(asyncio.run(f()))",
}


@asynccontextmanager
async def bench_at(root: Path, *, warm: bool) -> AsyncIterator[Bench]:
    made = Bench(root, ENVIRON, warm=warm)
    try:
        yield made
    finally:
        await made.close()


async def outcome(root: Path, code: str, *, warm: bool) -> tuple[RunResult, str]:
    async with bench_at(root, warm=warm) as bench:
        result = await bench.run(code, args="one two")
        return result, bench.log().replace(str(root), "ROOT").replace(bench.tag, "TAG")


@pytest.mark.parametrize("name", PROBES)
async def test_a_warm_job_is_as_a_cold_one(name: str, tmp_path: Path) -> None:
    cold = await outcome(tmp_path / "a", PROBES[name], warm=False)
    warm = await outcome(tmp_path / "b", PROBES[name], warm=True)
    assert warm == cold


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
async def test_a_signal_that_the_master_ignores_reaches_a_warm_job_as_a_cold_one(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Under nohup, or in the background of a script."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        cold = await outcome(tmp_path / "a", PROBES["signals"], warm=False)
        warm = await outcome(tmp_path / "b", PROBES["signals"], warm=True)
    finally:
        signal.signal(number, before)
    assert warm == cold
    assert "SIG_IGN" not in warm[1].partition("SIGHUP")[2].partition("SIGQUIT")[0]


async def test_jobs_of_one_worker_leave_each_other_nothing(tmp_path: Path) -> None:
    leave = (
        "import os, sys, builtins, json, signal\n"
        "os.environ['LEFT'] = sys.LEFT = builtins.LEFT = json.LEFT = 'left'\n"
        "sys.path.append('/left'); sys.setrecursionlimit(50_000); os.umask(0o777)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getppid())"
    )
    look = (
        "import os, sys, builtins, json, signal\n"
        "found = [os.environ.get('LEFT')] + [getattr(m, 'LEFT', None) for m in (sys, builtins, json)]\n"
        "mask = os.umask(0)\n"
        "print(os.getppid(), found, '/left' in sys.path, sys.getrecursionlimit(), mask != 0o777,"
        " signal.getsignal(signal.SIGTERM))"
    )
    async with bench_at(tmp_path / "data", warm=True) as bench:
        await bench.run(leave, job_id="first", run="1")
        await bench.run(look, job_id="second", run="2")
        keeper = bench.log("first").strip()
        assert bench.log("second") == f"{keeper} [None, None, None, None] False 1000 True 0\n"


async def test_random_numbers_of_two_jobs_differ(tmp_path: Path) -> None:
    code = "import random, uuid, tempfile; print(random.random(), uuid.uuid4(), tempfile.mktemp())"
    async with bench_at(tmp_path / "data", warm=True) as bench:
        await bench.run(code, job_id="first", run="1")
        await bench.run(code, job_id="second", run="2")
        first, second = bench.log("first").split(), bench.log("second").split()
    assert all(one != other for one, other in zip(first, second, strict=True))
