"""An engine with the way of a run around it, and nothing else of a master."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from pathlib import Path

from tests.sdk.cluster.peer import b64
from titan_sdk.cluster.engines.base import Process, RunRequest, RunResult, StagingFailed
from titan_sdk.cluster.engines.process import ProcessEngine, job_environment
from titan_sdk.cluster.folders import DataDir
from titan_sdk.wire.jobs import JobLine


class Bench:
    """Its runs are named by their test."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.data = DataDir(root)
        # What is left of a killed run is found by its name, on the whole machine, where these tests run side by side.
        self.tag = secrets.token_hex(8)
        self.processes: dict[str, Process] = {}
        self._tasks: list[asyncio.Task[RunResult]] = []
        self._environ = environ
        self.engine = self.new_engine()

    def new_engine(self) -> ProcessEngine:
        """As another master over the same folder would have."""
        return ProcessEngine(
            self.data,
            lambda worker: job_environment(self._environ, worker, "127.0.0.1", 9),
        )

    def run_name(self, run: str = "1") -> str:
        """A run's name, which no other test uses."""
        return f"{self.tag}.{run}"

    def request(
        self, code: str, *, name: str = "job.py", args: str = "", job_id: str = "DAG-j", run: str = "1"
    ) -> RunRequest:
        line = JobLine(job_id, "RUN_PAYLOAD", (name, args, b64(code), "GENERAL"))
        return RunRequest(self.run_name(run), line, "GENERAL-1", 1)

    def start(self, request: RunRequest) -> asyncio.Task[RunResult]:
        return self._spawn(self._way(request))

    async def _way(self, request: RunRequest) -> RunResult:
        try:
            process = self.processes[request.run] = await self.engine.stage(request)
        except StagingFailed as exc:
            return RunResult(exc.outcome, None, str(exc))
        return await self.engine.run(process, print)

    def follow(self, request: RunRequest, handle: str) -> asyncio.Task[RunResult]:
        """As the next master would."""
        process = self.processes[request.run] = Process(request, handle)
        return self._spawn(self.engine.reattach(process, print))

    def _spawn(self, way: Coroutine[None, None, RunResult]) -> asyncio.Task[RunResult]:
        task = asyncio.create_task(way)
        self._tasks.append(task)
        return task

    def handle(self, run: str = "1") -> str:
        return self.processes[self.run_name(run)].handle

    def kill(self, run: str = "1") -> None:
        self.engine.kill(self.processes[self.run_name(run)])

    def forget(self, run: str = "1") -> None:
        self.engine.forget(self.processes[self.run_name(run)])

    async def run(self, code: str, **more: str) -> RunResult:
        return await asyncio.wait_for(self.start(self.request(code, **more)), 60)

    def log(self, job_id: str = "DAG-j") -> str:
        return self.data.log_file(job_id).read_text()

    async def close(self) -> None:
        await self.engine.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.data.release()
