"""Jobs that begin as forks of the warm runner leave each other nothing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.sdk.cluster.engines.bench import Bench

ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/"}


@asynccontextmanager
async def bench_at(root: Path, *, warm: bool) -> AsyncIterator[Bench]:
    made = Bench(root, ENVIRON, warm=warm)
    try:
        yield made
    finally:
        await made.close()


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
