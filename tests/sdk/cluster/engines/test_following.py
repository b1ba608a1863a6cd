"""A run of an earlier master is followed by its process number, which is pinned for as long as anybody may signal it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from titan_sdk.cluster.engines import orphans, processes


@pytest.fixture
def job() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        ["sleep", "600"], env={**os.environ, "TITAN_RUN": "run"}, start_new_session=True
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def handle() -> str:
    """This process is the keeper; a keeper's name is a word of its command line."""
    name = Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()
    return f"{os.getpid()}:{name}:{processes.boot_id()}"


async def test_what_pins_the_process_is_open_until_its_keeper_has_told_the_end(
    job: subprocess.Popen[bytes], handle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped keeper tells late. Until then the descriptor must not be the number of another run's."""
    exits, found, looked = tmp_path / "exits", asyncio.get_running_loop().create_future(), asyncio.Event()
    is_child_of = processes.is_child_of

    def look(pid: int, parent: int) -> bool:
        looked.set()
        return is_child_of(pid, parent)

    monkeypatch.setattr(processes, "is_child_of", look)
    exits.write_text(f"run @{job.pid}\n")
    following = asyncio.create_task(
        orphans.follow(exits, "run", handle, lambda *told: found.set_result(told), shared=False)
    )
    pid, pidfd, _ = await asyncio.wait_for(found, 60)
    assert pid == job.pid
    job.kill()
    await asyncio.wait_for(looked.wait(), 60)  # dead, and its keeper has not noticed
    processes.signal_leader_and_group(pid, pidfd, signal.SIGTERM)
    exits.write_text(f"run @{job.pid}\nrun 137\n")
    assert await asyncio.wait_for(following, 60) == "137"
