"""Opcode -> event on the master -> reply text (protocol section 2; deviations are safe ones of section 13.11)."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Awaitable, Callable

from titan_sdk.cluster import stats
from titan_sdk.cluster.admission import (
    Refused,
    check_job,
)
from titan_sdk.cluster.artifacts import Area, OutsideArea
from titan_sdk.cluster.extensions.content import Content
from titan_sdk.cluster.extensions.jobs import JobQuestions
from titan_sdk.cluster.extensions.submissions import Submissions, checked_dag
from titan_sdk.cluster.extensions.values import Values
from titan_sdk.cluster.master import Master
from titan_sdk.cluster.once import OnceOnly
from titan_sdk.cluster.store.base import StoreFailed, Unstorable
from titan_sdk.cluster.store.changes import OUT_OF_DATE, Change, Once
from titan_sdk.cluster.value_requests import change_of, reply_to
from titan_sdk.errors import PeerProtocolError
from titan_sdk.runtime.bundle import runtime_bundle
from titan_sdk.wire import hello, once
from titan_sdk.wire.fields import decode_base64, split_pair
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import STORE_FAILED, Opcode

__all__ = ["FEATURES", "LARGE_REPLY", "Answered", "Handlers"]

FEATURES = (
    "archive_args",
    "chunked_artifacts",
    "completed_parents",
    "exact_text",
    "job_info",
    "keep_alive",
    "log_read",
    "once",
    "ordered_logs",
    "reports",
    "run_logs",
    "sadd_reply",
    "store_ops",
    "strict_submit",
    "submit",
    "wait",
)

_WORKER_ONLY = {Opcode.REGISTER, Opcode.JOB_COMPLETE, Opcode.LOG_STREAM, Opcode.LOG_BATCH}
_PAIRS = {Opcode.KV_SET, Opcode.KV_SADD}
"""Of Titan v1, so malformed ones are answered with its words alone."""

LARGE_REPLY = 16 * 1024
"""Bytes. A longer value is left, unread, to a task."""

Reply = str | bytes
Answered = Reply | Awaitable[Reply]
"""A reply, a future of one that comes with a commit, or a coroutine, which takes a task of its own."""
Handler = Callable[[Frame], Answered]


class Handlers:
    """One table: opcode -> handler. Every reply text begins as section 1.1 wants it: failures with one of its words."""

    def __init__(self, master: Master, version: str) -> None:
        self._master = master
        self._state = master.state
        self._journal = master.state.store.journal
        self._version = version
        self._uploads = master.uploads
        self._scripts = master.scripts
        questions, values = JobQuestions(master), Values(master.state.store)
        submissions = Submissions(master)
        content = Content(master.uploads, master.data.root / "incoming")
        self._once_only = OnceOnly(self._journal, self.carry_out)
        self._by_opcode: dict[int, Handler] = {
            Opcode.SUBMIT_JOB: _text(self._submit_job),
            Opcode.SUBMIT_DAG: _text(self._submit_dag),
            Opcode.GET_JOB_STATUS: _text(self._status),
            Opcode.DEPLOY: _text(self._deploy),
            Opcode.RUN: _text(self._run),
            Opcode.STOP: _text(self._stop),
            Opcode.STATS: _text(self._stats),
            Opcode.STATS_JSON: _text(self._stats_json),
            Opcode.UNREGISTER_SERVICE: _text(self._unregister_service),
            Opcode.CLEAN_STATS: _text(self._clean_stats),
            Opcode.KILL_WORKER: _text(self._kill_worker),
            Opcode.GET_LOGS: _text(self._get_logs),
            Opcode.HELLO: _text(self._hello),
            Opcode.UPLOAD_ASSET: _text(self._upload),
            Opcode.FETCH_ASSET: _text(self._fetch),
            Opcode.CANCEL_JOB: _text(self._cancel),
            Opcode.DEPLOY_SCRIPT: _text(self._deploy_script),
            Opcode.KV_SET: self._change,
            Opcode.KV_GET: _text(self._kv_get),
            Opcode.KV_SADD: self._change,
            Opcode.KV_SMEMBERS: _text(self._kv_smembers),
            Opcode.WAIT: _payload(questions.wait),
            Opcode.JOB_INFO: _payload(questions.info),
            Opcode.LOG_READ: _payload(questions.read_log),
            Opcode.ASSET_WRITE: _payload(content.write),
            Opcode.ASSET_READ: _payload(content.read),
            Opcode.STORE_DELETE: self._change,
            Opcode.STORE_KEYS: _payload(values.keys),
            Opcode.STORE_SWAP: self._change,
            Opcode.STORE_EXPIRE: self._change,
            Opcode.ONCE: self._once,
            Opcode.SUBMIT: _payload(submissions.submit),
        }

    def answer(self, frame: Frame) -> Answered:
        """The reply, or what to wait for. A failure inside a handler is an answer too, as on a real master."""
        handler = self._by_opcode.get(frame.opcode)
        if handler is None:
            return _unknown(frame.opcode)
        try:
            answered = handler(frame)
        except (Refused, PeerProtocolError, StoreFailed) as exc:
            return _sentence(frame.opcode, exc)
        if isinstance(answered, asyncio.Future):
            return answered.result() if answered.done() else answered
        return answered if isinstance(answered, str | bytes) else _in_time(frame.opcode, answered)

    async def carry_out(self, frame: Frame) -> Reply:
        """The reply, in time."""
        answered = self.answer(frame)
        return answered if isinstance(answered, str | bytes) else await answered

    # ------------------------------------------------------------------ jobs

    async def _submit_dag(self, payload: str) -> str:
        lines, numbers = await checked_dag(self._state, payload)
        await self._master.submit(lines, numbers)
        return "DAG_ACCEPTED"

    def _status(self, payload: str) -> Answered:
        job_id = payload.strip()
        if self._master.is_arriving(job_id):
            return self._status_when_arrived(job_id)
        return self._state.lookup(job_id) or "NULL"

    async def _status_when_arrived(self, job_id: str) -> str:
        await self._master.arrived(job_id)
        return self._state.lookup(job_id) or "NULL"

    async def _submit_job(self, payload: str) -> str:
        await self._master.submit([check_job(payload)], {})
        return "JOB_ACCEPTED"

    async def _run(self, payload: str) -> str:
        """``file|requirement``: a job under an id that the reply tells."""
        name, _, requirement = payload.partition("|")
        if not name.strip():
            return "ERROR: Missing filename"
        found = await asyncio.to_thread(self._scripts.find, name.strip())
        if found is None:
            return "ERROR: File not found recursively in perm_files"
        requirement = requirement.strip() or "GENERAL"
        job_id = f"TSK-{uuid.uuid4()}"
        try:
            content = base64.b64encode(await asyncio.to_thread(self._scripts.read, found)).decode("ascii")
        except (OutsideArea, OSError):
            return "ERROR: Server File IO issue"
        base_name = found.rpartition("/")[2]
        line = check_job(f"{job_id}|RUN_PAYLOAD|{base_name}||{content}|{requirement}|1|0")
        await self._master.submit([line], {})
        # No separator: that is what a real master answers.
        return f"JOB_QUEUED{job_id} on {requirement}"

    async def _deploy(self, payload: str) -> str:
        """``file|port|requirement``: a service under an id of the master's choice (see the statistics)."""
        name, port, requirement, *_ = [*(part.strip() for part in payload.split("|")), "", "", ""]
        try:
            content = base64.b64encode(await asyncio.to_thread(self._scripts.read, name)).decode("ascii")
        except (OutsideArea, FileNotFoundError):
            return "ERROR: File not found in perm_files"
        except OSError:
            return "ERROR: Server File IO issue"
        base_name = name.rpartition("/")[2]
        job_id = f"TSK-{uuid.uuid4()}"
        line = check_job(
            f"{job_id}|DEPLOY_PAYLOAD|{base_name}|{content}|{port or 0}|{requirement or 'GENERAL'}|1|0"
        )
        await self._master.submit([line], {})
        return "DEPLOY_QUEUED"

    async def _cancel(self, payload: str) -> str:
        await self._master.arrived(payload.strip())
        found = await self._master.cancel(self._master.state.resolve(payload.strip()))
        return "CANCELLED" if found else "NOT_FOUND"

    async def _get_logs(self, payload: str) -> str:
        return await self._master.state.logs.read(self._master.state.resolve(payload.strip()))

    async def _stop(self, payload: str) -> str:
        given = payload.strip()
        if not given:
            return "ERROR: Missing Service ID"
        job_id = self._master.state.resolve(given)
        if await self._master.stop_service(job_id):
            return f"STOPPED: {job_id}"
        live = ", ".join(self._master.services.live())
        return f"ERROR: Service {given} not found in liveServiceMap. Current keys: [{live}]"

    # ------------------------------------------------------------------ the cluster

    async def _hello(self, _: str) -> str:
        return hello.reply(self._version, FEATURES, runtime_bundle().sha256)

    async def _stats(self, _: str) -> str:
        return stats.stats_text(self._master)

    async def _stats_json(self, _: str) -> str:
        return stats.stats_json(self._master, self._version)

    async def _clean_stats(self, _: str) -> str:
        # A real master forgets its services here and can stop them no more; ours keeps them.
        self._master.state.activity.clear()
        return "Stats Map Cleared. Run STATS again to see fresh state."

    async def _unregister_service(self, _: str) -> str:
        # Sent by a worker whose service has ended. Here the master sees that itself, and a client's word for
        # it would leave a running service that nobody can stop.
        return "ACK_UNREGISTERED"

    async def _kill_worker(self, payload: str) -> str:
        parts = payload.split("|")
        if len(parts) != 2:
            return "ERROR: Payload must be HOST|PORT"
        host, port = (part.strip() for part in parts)
        if not port.isascii() or not port.isdigit():
            return "ERROR: Invalid Port Format"
        if self._master.pools is not None:
            return f"ERROR: Worker node {port} belongs to the Ray cluster; stop it there."
        if host in {"127.0.0.1", "localhost", self._master.settings.host}:
            for spec in self._master.settings.worker_specs():
                if spec.port == int(port) and self._master.state.scheduler.workers.get(spec.name) is not None:
                    services = await self._master.remove_worker(spec.name)
                    return f"SUCCESS: Worker {port} and {services} services shut down."
        return f"ERROR: Worker node {port} not found in registry."

    # ------------------------------------------------------------------ files

    async def _upload(self, payload: str) -> str:
        return await self._store_file(self._uploads, payload, "UPLOAD", "Upload", "asset")

    async def _deploy_script(self, payload: str) -> str:
        return await self._store_file(self._scripts, payload, "DEPLOY", "Deploy", "script")

    async def _store_file(self, area: Area, payload: str, word: str, title: str, kind: str) -> str:
        pair = split_pair(payload)
        if pair is None:
            return f"ERROR: Invalid {title} Payload"
        try:
            await asyncio.to_thread(area.write, pair[0], decode_base64(pair[1].strip()))
        except OutsideArea:
            return f"ERROR: Invalid {kind} name (path traversal rejected)"
        except (OSError, PeerProtocolError) as exc:
            return f"{word}_FAILED: {exc}"
        return f"{word}_SUCCESS"

    async def _fetch(self, payload: str) -> str:
        try:
            data = await asyncio.to_thread(self._uploads.read, payload.strip())
        except (OutsideArea, FileNotFoundError):
            if payload.strip() != runtime_bundle().name:
                return "ERROR_NOT_FOUND"
            # Nobody need have uploaded what HELLO announces.
            data = runtime_bundle().data
        except OSError as exc:
            return f"ERROR_READING_FILE: {exc.strerror}"
        return base64.b64encode(data).decode("ascii")

    # ------------------------------------------------------------------ values and sets

    def _kv_get(self, key: str) -> Answered:
        at_hand = self._state.store.value_at_hand
        value = False if at_hand is None else at_hand(key, LARGE_REPLY)
        if value is False:
            return self._kv_get_large(key)
        return "NULL" if value is None else value

    async def _kv_get_large(self, key: str) -> str:
        """Sent at its reader's pace, or fetched first."""
        value = await self._state.store.get(key)
        return "NULL" if value is None else value

    def _change(self, frame: Frame) -> Answered:
        change = change_of(frame.opcode, frame.payload)
        assert change is not None
        return self._write(change, lambda result: reply_to(frame.opcode, result))

    def _once(self, frame: Frame) -> Answered:
        request, inner = once.decode(frame.payload)
        change = change_of(inner.opcode, inner.payload)
        if change is None:
            return self._once_only.answer(request, inner)

        def told(result: object) -> str:
            return once.OUT_OF_DATE if result == OUT_OF_DATE else reply_to(inner.opcode, result)

        return self._write(Once(request, change), told)

    def _write(self, change: Change, told: Callable[[object], str]) -> asyncio.Future[Reply]:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._journal.write_with(
            change,
            lambda result: answered.set_result(told(result)),
            lambda exc: answered.set_result(not_stored(exc)),
        )
        self._journal.commit()
        return answered

    async def _kv_smembers(self, payload: str) -> str:
        return ",".join(await self._master.state.store.members(payload))


def not_stored(exc: StoreFailed) -> str:
    """The reply to a request that the store did not carry out."""
    if isinstance(exc, Unstorable):
        return f"ERROR: what cannot be written in UTF-8 is no text: {exc}"
    return f"{STORE_FAILED}{exc}"


def _text(handler: Callable[[str], Answered]) -> Handler:
    return lambda frame: handler(frame.text)


def _payload(handler: Callable[[bytes], Answered]) -> Handler:
    return lambda frame: handler(frame.payload)


async def _in_time(opcode: int, answered: Awaitable[Reply]) -> Reply:
    try:
        return await answered
    except (Refused, PeerProtocolError, StoreFailed) as exc:
        return _sentence(opcode, exc)


def _sentence(opcode: int, exc: Exception) -> str:
    if isinstance(exc, StoreFailed):
        return not_stored(exc)
    if isinstance(exc, PeerProtocolError) and opcode not in _PAIRS:
        return f"ERROR: {Opcode(opcode).name}: {exc}"
    return f"ERROR: {exc}"


def _unknown(opcode: int) -> str:
    if opcode in _WORKER_ONLY:
        return (
            f"ERROR: opcode 0x{opcode:02X} ({Opcode(opcode).name}) is for workers of a distributed Titan; "
            "this master runs its workers itself and accepts it from nobody"
        )
    return f"UNKNOWN_OPCODE: {opcode - 256 if opcode > 127 else opcode}"
