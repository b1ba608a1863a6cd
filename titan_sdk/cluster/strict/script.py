"""One script on a strict worker, from its start to the word that the master gets (section 5.1 and 5.2)."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from titan_sdk.cluster.engines.staging import split_args
from titan_sdk.cluster.folders import safe_name
from titan_sdk.cluster.strict import processes
from titan_sdk.cluster.strict.logs import Batcher
from titan_sdk.cluster.strict.settings import StrictSettings
from titan_sdk.model.rules import DAG_PREFIX

__all__ = ["ScriptRun"]


@dataclass(slots=True)
class ScriptRun:
    """A run; ``execute`` blocks until nobody holds the output open any more."""

    job_id: str
    filename: str
    """Below the workspace, or the absolute path of an archive's entry."""
    args: str
    workspace: Path
    environment: dict[str, str]
    settings: StrictSettings
    batcher: Batcher
    process: subprocess.Popen[bytes] | None = None
    output: list[str] = field(default_factory=list)

    def execute(self, started: Callable[[ScriptRun], None]) -> str:
        """``COMPLETED|<exit code>|<output>``, or a text that begins with ``ERROR``."""
        try:
            return self._execute(started)
        except OSError as exc:
            return f"ERROR: Execution failed - {exc}"
        finally:
            self.batcher.close()

    def _execute(self, started: Callable[[ScriptRun], None]) -> str:
        if not self.filename.endswith((".py", ".sh")):
            # A real worker then takes the job's id for the file.
            return f"ERROR: Script file not found: {self.job_id}"
        script = self.workspace / self.filename
        if not script.exists():
            return f"ERROR: Script file not found: {self.filename}"
        cwd = self._folder(script)
        interpreter = ("python", "-u") if script.suffix == ".py" else ("/bin/bash",)
        process = processes.start((*interpreter, str(script), *split_args(self.args)), cwd, self.environment)
        self.process = process
        started(self)
        reader = threading.Thread(target=self._read, args=(process, cwd), daemon=True)
        reader.start()
        limit = (
            self.settings.dag_job_limit
            if self.job_id.startswith(DAG_PREFIX)
            else self.settings.plain_job_limit
        )
        try:
            process.wait(limit)
            in_time = True
        except subprocess.TimeoutExpired:
            in_time = False
        # Also after the limit: an over-long script runs to its end, and is a failure then.
        reader.join()
        if not in_time:
            process.terminate()
            process.wait()
        processes.close_pipes(process)
        if not in_time:
            return f"ERROR: Script timed out ({limit:g}s limit)"
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        output = "\n".join(self.output).strip()
        return f"COMPLETED|{code}|{output}"

    def _folder(self, script: Path) -> Path:
        if Path(self.filename).is_absolute():
            return script.parent
        cwd = self.workspace / ("shared" if self.job_id.startswith(DAG_PREFIX) else safe_name(self.job_id))
        cwd.mkdir(parents=True, exist_ok=True)
        return cwd

    def _read(self, process: subprocess.Popen[bytes], cwd: Path) -> None:
        try:
            if "/" in self.job_id:
                raise FileNotFoundError(self.job_id)  # it would lie in a folder that is not there
            file = open(  # noqa: SIM115 (that it cannot be opened is one of the cases)
                cwd / f"{self.job_id}.log", "a", encoding="utf-8", errors="replace"
            )
        except OSError:
            # A real worker's reader dies of this, and the script of its closed output.
            assert process.stdout is not None
            process.stdout.close()
            return
        with file:
            for line in processes.output_lines(process):
                self.batcher.add(line)
                file.write(f"{line}\n")
                self.output.append(line)
