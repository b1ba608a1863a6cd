"""An engine with somebody who listens, and nothing else of a master."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path

from tests.sdk.cluster.peer import b64
from titan_sdk.cluster.engines.base import RunRequest, RunResult
from titan_sdk.cluster.engines.process import ProcessEngine, job_environment
from titan_sdk.cluster.folders import DataDir
from titan_sdk.wire.jobs import JobLine


class Bench:
    """Releases every launch at once unless told otherwise."""

    def __init__(self, root: Path, environ: Mapping[str, str], *, warm: bool = False) -> None:
        self.data = DataDir(root)
        self.release = True
        # What is left of a killed run is found by its name, on the whole machine, where these tests run side by side.
        self.tag = secrets.token_hex(8)
        self.handles: dict[str, str] = {}
        self.launches: asyncio.Queue[str] = asyncio.Queue()
        self.exits: asyncio.Queue[tuple[str, RunResult]] = asyncio.Queue()
        self._environ = environ
        self._warm = warm
        self.engine = self.new_engine()

    def new_engine(self) -> ProcessEngine:
        """As another master over the same folder would have."""
        return ProcessEngine(
            self.data,
            self,
            lambda worker: job_environment(self._environ, worker, "127.0.0.1", 9),
            warm=self._warm,
        )

    def launched(self, request: RunRequest, handle: str) -> None:
        self.handles[request.run] = handle
        self.launches.put_nowait(request.run)
        if self.release:
            self.engine.release(request.run)

    def exited(self, request: RunRequest, result: RunResult) -> None:
        self.exits.put_nowait((request.run, result))

    def run_name(self, run: str = "1") -> str:
        """A run's name, which no other test uses."""
        return f"{self.tag}.{run}"

    def request(
        self, code: str, *, name: str = "job.py", args: str = "", job_id: str = "DAG-j", run: str = "1"
    ) -> RunRequest:
        line = JobLine(job_id, "RUN_PAYLOAD", (name, args, b64(code), "GENERAL"))
        return RunRequest(self.run_name(run), line, "GENERAL-1", 1)

    async def exit(self) -> RunResult:
        _, result = await asyncio.wait_for(self.exits.get(), 30)
        return result

    async def run(self, code: str, **more: str) -> RunResult:
        self.engine.start(self.request(code, **more))
        return await self.exit()

    def log(self, job_id: str = "DAG-j") -> str:
        return self.data.log_file(job_id).read_text()

    async def close(self) -> None:
        await self.engine.close()
        self.data.release()
