"""Runs runtime jobs as a worker would: the real stub through bash, in a folder shared by all jobs."""

from __future__ import annotations

import os
import secrets
import select
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.mini_store import MiniStore
from titan_sdk.runtime import keys, reader
from titan_sdk.runtime.bundle import runtime_bundle
from titan_sdk.runtime.spec import RunSpec, Script
from titan_sdk.runtime.stub import build_stub
from titan_sdk.values import load

DEADLINE = 240.0


@dataclass(frozen=True)
class Done:
    """One run of a stub that has ended."""

    code: int
    output: bytes

    @property
    def text(self) -> str:
        return self.output.decode()


class Running:
    """One run of a stub under way; `pid` is the launcher, as bash replaced itself."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid = process.pid

    def wait(self) -> Done:
        output, _ = self.process.communicate(timeout=DEADLINE)
        return Done(self.process.returncode, output)


class Bench:
    """A worker's folders, and a master to report to."""

    def __init__(self, store: MiniStore, folder: Path) -> None:
        self.store = store
        self._started: list[Running] = []
        self.shared = folder / "workspace" / "shared"
        self.temporary = folder / "tmp"
        self.cache = folder / "cache"
        for path in (self.shared, self.temporary):
            path.mkdir(parents=True)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("TITAN_", "PYTHON"))},
            "TMPDIR": str(self.temporary),
            "TITAN_RUNTIME_CACHE": str(self.cache),
            "TITAN_RUNTIME_START_PATIENCE": "5",
        }

    def spec(self, source: str | bytes, name: str = "job.py", **fields: Any) -> RunSpec:
        content = source if isinstance(source, bytes) else source.encode()
        script, asset = Script.of(name, content, fields.pop("kind", None))
        if asset:
            self.store.assets[asset.name] = asset.data
        fields = {"job_id": "DAG-job", "host": "127.0.0.1", "port": self.store.port, **fields}
        return RunSpec(nonce=secrets.token_hex(8), script=script, **fields)

    def stage(self, spec: RunSpec) -> Path:
        path = self.shared.parent / f"titan-{spec.nonce}.sh"
        path.write_bytes(build_stub(spec, runtime_bundle()))
        return path

    def start(self, spec: RunSpec, **environment: str) -> Running:
        process = subprocess.Popen(
            ["/bin/bash", str(self.stage(spec))],
            cwd=self.shared,
            env={**self.environment, **environment},
            # A real worker's stdin is a pipe that nobody ever writes to or closes.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        running = Running(process)
        self._started.append(running)
        return running

    def run(self, spec: RunSpec, **environment: str) -> Done:
        return self.start(spec, **environment).wait()

    def close(self) -> None:
        """End what a failed test has left running; its guards end the rest."""
        for running in self._started:
            if running.process.poll() is None:
                running.process.kill()
            with running.process:
                pass

    def state(self, spec: RunSpec) -> reader.RunState:
        return reader.parse_state(self.store.values[keys.state_key(spec.job_id, spec.nonce)])

    def has_state(self, spec: RunSpec, *states: str) -> bool:
        text = self.store.values.get(keys.state_key(spec.job_id, spec.nonce))
        return text is not None and reader.parse_state(text).state in states

    def log(self, spec: RunSpec) -> str:
        state = self.state(spec)
        chunks = [
            self.store.values[keys.log_key(spec.job_id, spec.nonce, i)] for i in range(state.log_chunks)
        ]
        return "".join(reader.parse_log_chunk(chunk).text for chunk in chunks)

    def result(self, spec: RunSpec) -> Any:
        info = self.state(spec).result
        assert info is not None
        slices = [self.store.values[keys.result_key(spec.job_id, spec.nonce, i)] for i in range(info.chunks)]
        return load(reader.join_result(info, slices))

    def fifo(self, name: str = "fifo") -> Path:
        """A named pipe in the shared folder: the job writes to it when it has come to a certain point."""
        path = self.shared / name
        os.mkfifo(path)
        return path

    def leftovers(self) -> list[str]:
        return sorted(os.listdir(self.temporary))


def again(spec: RunSpec, **changes: Any) -> RunSpec:
    """The same submission, run once more by the master."""
    return replace(spec, **changes)


class Watch:
    """Notices the end of a process that is not a child of this one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def has_ended(self, seconds: float = 240.0) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        os.close(self._descriptor)
