"""A real master's answers to known and unknown opcodes (section 2)."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Awaitable, Callable

from titan_sdk.cluster.artifacts import FileArea, OutsideArea
from titan_sdk.cluster.requests.artifacts import store_file
from titan_sdk.strict.jobs import StrictJob, parse_plain
from titan_sdk.strict.master import StrictMaster
from titan_sdk.strict.registry import HOST
from titan_sdk.strict.stats import stats_json, stats_text
from titan_sdk.wire.fields import split_pair
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import Opcode

__all__ = ["StrictRequests"]


class StrictRequests:
    """Answers for one master."""

    def __init__(self, master: StrictMaster) -> None:
        self._master = master
        self._uploads = FileArea(master.data.uploads)
        self._scripts = FileArea(master.data.scripts)
        self._by_opcode: dict[int, Callable[[str], str | Awaitable[str]]] = {
            Opcode.REGISTER: self._register,
            Opcode.SUBMIT_JOB: self._submit_job,
            Opcode.SUBMIT_DAG: self._submit_dag,
            Opcode.DEPLOY: self._deploy,
            Opcode.RUN: self._run,
            Opcode.STOP: lambda text: master.stop_service(text) if text else "ERROR: Missing Service ID",
            Opcode.STATS: lambda _: stats_text(master),
            Opcode.STATS_JSON: lambda _: stats_json(master),
            Opcode.UNREGISTER_SERVICE: self._unregister,
            Opcode.CLEAN_STATS: self._clean,
            Opcode.KILL_WORKER: self._kill_worker,
            Opcode.JOB_COMPLETE: self._job_complete,
            Opcode.LOG_STREAM: self._log_stream,
            Opcode.LOG_BATCH: self._log_batch,
            Opcode.GET_LOGS: master.logs.read,
            Opcode.UPLOAD_ASSET: lambda text: store_file(self._uploads, text, "UPLOAD", "asset"),
            Opcode.DEPLOY_SCRIPT: lambda text: store_file(self._scripts, text, "DEPLOY", "script"),
            Opcode.FETCH_ASSET: self._fetch,
            Opcode.GET_JOB_STATUS: lambda text: self._get(f"job:{text}:status"),
            Opcode.CANCEL_JOB: lambda text: master.cancel(text.strip()),
            Opcode.KV_SET: self._kv_set,
            Opcode.KV_GET: lambda text: self._get(f"user:{text}"),
            Opcode.KV_SADD: self._kv_sadd,
            Opcode.KV_SMEMBERS: lambda text: ",".join(master.store.members(f"user:{text}")),
        }

    def answer(self, frame: Frame) -> str | Awaitable[str]:
        """The reply's text."""
        handler: Callable[[str], str | Awaitable[str]] | None = self._by_opcode.get(frame.opcode)
        if handler is None:
            return f"UNKNOWN_OPCODE: {frame.opcode - 256 if frame.opcode > 127 else frame.opcode}"
        return handler(frame.text)

    # ------------------------------------------------------------------ jobs

    def _submit_job(self, payload: str) -> str:
        self._master.submit(parse_plain(payload))
        return "JOB_ACCEPTED"

    async def _submit_dag(self, payload: str) -> str:
        await self._master.submit_dag(payload)
        return "DAG_ACCEPTED"

    def _deploy(self, payload: str) -> str:
        name, port, tag, *_ = [*payload.split("|"), "", ""]
        try:
            content = base64.b64encode(self._scripts.read(name)).decode("ascii")
        except (OutsideArea, FileNotFoundError):
            return "ERROR: File not found in perm_files"
        except OSError:
            return "ERROR: Server File IO issue"
        job_id = f"TSK-{uuid.uuid4()}"
        self._master.submit(StrictJob(job_id, f"DEPLOY_PAYLOAD|{name}|{content}|{port}|{tag or 'GENERAL'}"))
        return "DEPLOY_QUEUED"

    def _run(self, payload: str) -> str:
        """RUN, which is broken in a real master: the script is in the field of the arguments, so the tag runs as a script."""
        name, tag, *_ = [*payload.split("|"), "", ""]
        if not name:
            return "ERROR: Missing filename"
        found = self._scripts.find(name)
        if found is None:
            return "ERROR: File not found recursively in perm_files"
        tag = tag or "GENERAL"
        job_id = f"TSK-{uuid.uuid4()}"
        content = base64.b64encode(self._scripts.read(found)).decode("ascii")
        base_name = found.rpartition("/")[2]
        self._master.submit(StrictJob(job_id, f"RUN_PAYLOAD|{base_name}|{content}|{tag}"))
        return f"JOB_QUEUED{job_id} on {tag}"

    def _get(self, key: str) -> str:
        value = self._master.store.get(key)
        return "NULL" if value is None else value

    # ------------------------------------------------------------------ workers and services

    def _register(self, payload: str) -> str:
        port, tag, permanent, *_ = [*payload.split("||"), "", ""]
        try:
            number = int(port)
        except ValueError:
            return f'SERVER_ERROR: For input string: "{port}"'
        self._master.registry.register(number, tag or "GENERAL", permanent=permanent.lower() == "true")
        return "REGISTERED"

    def _unregister(self, payload: str) -> str:
        self._master.service_gone(payload)
        return "ACK_UNREGISTERED"

    def _clean(self, _: str) -> str:
        self._master.services.clear()
        return "Stats Map Cleared. Run STATS again to see fresh state."

    def _kill_worker(self, payload: str) -> str:
        parts = payload.split("|")
        if len(parts) < 2:
            return "ERROR: Payload must be HOST|PORT"
        try:
            port = int(parts[1])
        except ValueError:
            return "ERROR: Invalid Port Format"
        found = self._master.registry.get(port)
        if parts[0] != HOST or found is None:
            return f"ERROR: Worker node {port} not found in registry."
        if found.permanent:
            return f"ERROR: Cannot auto-shutdown PERMANENT worker {parts[0]}:{port}"
        hosted = [name for name, host in self._master.services.items() if host is found]
        for name in hosted:
            self._master.stop_service(name)
        if found.worker is not None:
            found.worker.die()
        self._master.registry.drop(port)
        return f"SUCCESS: Worker {port} and {len(hosted)} services shut down."

    def _job_complete(self, payload: str) -> str:
        job_id, status, result, *_ = [*payload.split("|", 2), "", ""]
        if status:
            self._master.job_ended(job_id, status, result)
        return "ACK_CALLBACK"

    def _log_stream(self, payload: str) -> str:
        pair = split_pair(payload)
        if pair is not None:
            self._master.logs.append(pair[0], [pair[1]])
        return "ACK_LOG"

    def _log_batch(self, payload: str) -> str:
        pair = split_pair(payload)
        if pair is not None:
            self._master.log_batch(*pair)
        return "ACK_BATCH"

    # ------------------------------------------------------------------ files and values

    def _fetch(self, payload: str) -> str:
        try:
            return base64.b64encode(self._uploads.read(payload.strip())).decode("ascii")
        except (OutsideArea, FileNotFoundError):
            return "ERROR_NOT_FOUND"
        except OSError as exc:
            return f"ERROR_READING_FILE: {exc.strerror}"

    def _kv_set(self, payload: str) -> str:
        pair = split_pair(payload)
        if pair is None:
            return "ERROR: Invalid Format"
        self._master.store.put(f"user:{pair[0]}", pair[1])
        return "OK"

    def _kv_sadd(self, payload: str) -> str:
        pair = split_pair(payload)
        if pair is None:
            return "ERROR: Invalid Format"
        self._master.store.add(f"user:{pair[0]}", pair[1])
        return "0"
