"""How Ray's worker processes find the worker process of their node, and what is left of those that were killed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from titan_sdk.cluster.engines.ray.inside.node.node_folders import NodeFolders
from titan_sdk.cluster.engines.ray.inside.node.node_worker import find_worker, settings_of
from titan_sdk.cluster.worker.client import WorkerClient
from titan_sdk.cluster.worker.protocol import ENDED, StartRequest

ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


class Node:
    """One node; its processes end once nobody is connected."""

    def __init__(self, places: NodeFolders) -> None:
        self.places = places
        self.found: list[WorkerClient] = []

    async def worker(self) -> WorkerClient:
        worker = await find_worker(self.places, settings_of(ENVIRONMENT), ENVIRONMENT)
        self.found.append(worker)
        return worker

    async def run(self, worker: WorkerClient, name: str) -> int | None:
        log, program = str(self.places.outputs / name), [sys.executable, "-I", "-S", "-c", ""]
        start = StartRequest(name, f"DAG-{name}", program, "/", log, "here", held=True)
        async with asyncio.timeout(60):
            return (await worker.start(start, ENVIRONMENT)).code


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeFolders:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return NodeFolders("cluster", "0123456789abcdef")


@pytest.fixture
async def node(places: NodeFolders) -> AsyncIterator[Node]:
    made = Node(places)
    yield made
    for worker in made.found:
        await worker.close()


async def test_a_process_that_is_about_to_end_is_nobodys(node: Node) -> None:
    """The last one who was connected leaves at the moment in which the next one comes."""
    worker = await node.worker()
    names = {worker.name}
    for number in range(30):
        leaving = asyncio.create_task(worker.close())
        await asyncio.sleep(0)
        until = time.perf_counter() + number * 50e-6
        while time.perf_counter() < until:
            pass
        worker = await node.worker()
        names.add(worker.name)
        assert await node.run(worker, str(number)) == 0
        await leaving
    assert len(names) > 1, "none has ended: nothing was tried"


async def test_those_who_come_at_once_share_one(node: Node) -> None:
    workers = await asyncio.gather(*(node.worker() for _ in range(4)))
    assert len({worker.pid for worker in workers}) == 1
    assert await asyncio.gather(*(node.run(worker, f"{n}") for n, worker in enumerate(workers))) == [0] * 4


async def test_what_killed_ones_have_left_goes_when_the_next_process_starts(node: Node) -> None:
    places = node.places
    ended, long_ago = places.root / ENDED, time.time() - 86400
    ended.mkdir()
    kept = [ended / "told-to-nobody"]
    for name in ("killed", "silent", "young"):
        kept += [places.outputs / name, places.ends / name, Path(places.staging("", name))]
        kept[-1].mkdir()
        for path in kept[-3:-1]:
            path.write_text("left")
            if name != "young":
                os.utime(path, (long_ago, long_ago))
    with (places.outputs / "silent").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        await node.worker()
    assert [path for path in kept if path.exists()] == kept[4:]


def test_nothing_is_left_of_a_run_that_is_over(places: NodeFolders) -> None:
    with places.output("7") as (path, output):
        (places.ends / "7").write_text("{}")
        Path(places.staging("", "7")).mkdir()
        os.write(output, b"text")
        assert (Path(path).read_bytes(), places.read_end("7")) == (b"text", "{}")
    assert not any(places.outputs.iterdir())
    assert not any(places.ends.iterdir())
    assert not any(places.runs.iterdir())
