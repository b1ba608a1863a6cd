"""Opcode -> event on the master -> reply text (protocol section 2; deviations are safe ones of section 13.11)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable

from titan_sdk.cluster import stats
from titan_sdk.cluster.admission import Refused, check_job
from titan_sdk.cluster.artifacts import Area, OutsideArea
from titan_sdk.cluster.bulk import check_large_dag
from titan_sdk.cluster.by_name import deploy_by_name, run_by_name
from titan_sdk.cluster.extensions import FEATURES as EXTENSIONS
from titan_sdk.cluster.master import Master
from titan_sdk.cluster.quick import Quick, not_stored
from titan_sdk.cluster.store.base import StoreFailed
from titan_sdk.errors import PeerProtocolError
from titan_sdk.wire import hello
from titan_sdk.wire.fields import decode_base64, split_pair
from titan_sdk.wire.opcodes import Opcode

__all__ = ["FEATURES", "Handlers"]

FEATURES = (
    "archive_args",
    "completed_parents",
    "exact_text",
    "keep_alive",
    "ordered_logs",
    "sadd_reply",
    "strict_submit",
)

_WORKER_ONLY = {Opcode.REGISTER, Opcode.JOB_COMPLETE, Opcode.LOG_STREAM, Opcode.LOG_BATCH}

Handler = Callable[[str], Awaitable[str]]


class Handlers:
    """Answers requests. Every reply text begins as section 1.1 wants it: failures with one of its words."""

    def __init__(self, master: Master, version: str) -> None:
        self._master = master
        self._version = version
        self._uploads = master.uploads
        self._scripts = master.scripts
        self.quick = Quick(master)
        self._by_opcode: dict[int, Handler] = {
            Opcode.SUBMIT_JOB: self._submit_job,
            Opcode.SUBMIT_DAG: self._submit_large_dag,
            Opcode.GET_JOB_STATUS: self._status_of_arriving,
            Opcode.DEPLOY: self._deploy,
            Opcode.RUN: self._run,
            Opcode.STOP: self._stop,
            Opcode.STATS: self._stats,
            Opcode.STATS_JSON: self._stats_json,
            Opcode.UNREGISTER_SERVICE: self._unregister_service,
            Opcode.CLEAN_STATS: self._clean_stats,
            Opcode.KILL_WORKER: self._kill_worker,
            Opcode.GET_LOGS: self._get_logs,
            Opcode.HELLO: self._hello,
            Opcode.UPLOAD_ASSET: self._upload,
            Opcode.FETCH_ASSET: self._fetch,
            Opcode.CANCEL_JOB: self._cancel,
            Opcode.DEPLOY_SCRIPT: self._deploy_script,
            Opcode.KV_GET: self._kv_get,
            Opcode.KV_SMEMBERS: self._kv_smembers,
        }

    async def answer(self, opcode: int, payload: str) -> str:
        """The reply's text; a failure inside a handler is an answer too, as on a real master."""
        if opcode in self.quick:
            answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            if self.quick.begin(opcode, payload, answered.set_result):
                # Shielded: the journal answers many at once, and must not meet a future that was cancelled.
                return await asyncio.shield(answered)
        handler = self._by_opcode.get(opcode)
        if handler is None:
            if opcode in _WORKER_ONLY:
                return (
                    f"ERROR: opcode 0x{opcode:02X} ({Opcode(opcode).name}) is for workers of a distributed Titan; "
                    "this master runs its workers itself and accepts it from nobody"
                )
            return f"UNKNOWN_OPCODE: {opcode - 256 if opcode > 127 else opcode}"
        try:
            return await handler(payload)
        except Refused as exc:
            return f"ERROR: {exc}"
        except StoreFailed as exc:
            return not_stored(exc)

    # ------------------------------------------------------------------ jobs

    async def _submit_large_dag(self, payload: str) -> str:
        await self._master.submit(await check_large_dag(payload, self._master.state.known))
        return "DAG_ACCEPTED"

    async def _status_of_arriving(self, payload: str) -> str:
        job_id = payload.strip()
        while (arrival := self._master.arrival(job_id)) is not None:
            await asyncio.shield(arrival)
        return self._master.state.lookup(job_id) or "NULL"

    async def _submit_job(self, payload: str) -> str:
        await self._master.submit([check_job(payload)])
        return "JOB_ACCEPTED"

    async def _run(self, payload: str) -> str:
        return await run_by_name(self._master, self._scripts, payload)

    async def _deploy(self, payload: str) -> str:
        return await deploy_by_name(self._master, self._scripts, payload)

    async def _cancel(self, payload: str) -> str:
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
        return hello.reply(self._version, (*FEATURES, *EXTENSIONS))

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
            return "ERROR_NOT_FOUND"
        except OSError as exc:
            return f"ERROR_READING_FILE: {exc.strerror}"
        return base64.b64encode(data).decode("ascii")

    # ------------------------------------------------------------------ values and sets

    async def _kv_get(self, payload: str) -> str:
        value = await self._master.state.store.get(payload)
        return "NULL" if value is None else value

    async def _kv_smembers(self, payload: str) -> str:
        return ",".join(await self._master.state.store.members(payload))
