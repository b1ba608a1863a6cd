"""The worker processes of a data directory, as its master holds them."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

from titan_sdk.cluster.folders import socket_folder
from titan_sdk.cluster.worker.local_workers import LocalWorkers
from titan_sdk.cluster.worker.protocol import MARK
from titan_sdk.runtime.bundle import runtime_bundle
from titan_sdk.runtime.worker import processes


@pytest.mark.parametrize("is_let_go", [True, False], ids=["nobody waits for it", "a run waits for it"])
async def test_a_process_that_is_being_started_ends_with_its_machine(tmp_path: Path, is_let_go: bool) -> None:
    environment = {"PATH": os.environ["PATH"]}
    machine = LocalWorkers(tmp_path, runtime_bundle().sha256, lambda: environment, shared=False)
    asked = asyncio.create_task(machine.worker())
    while not list(socket_folder(tmp_path).iterdir()):  # noqa: ASYNC110 - a folder tells nobody
        await asyncio.sleep(0.001)
    if is_let_go:
        asked.cancel()
    await machine.close()
    await asyncio.gather(asked, return_exceptions=True)
    owner = (tmp_path / "machine" / "owner").read_text("ascii")
    left = await asyncio.to_thread(processes.find, lambda marks: marks.get(MARK, "").startswith(owner), MARK)
    assert not left
    del machine, asked
    gc.collect()  # what was left open would be warned of
