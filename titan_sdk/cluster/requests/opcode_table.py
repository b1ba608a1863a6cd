"""The table of requests: opcode -> reply (protocol section 2; it deviates only where section 13.11 calls it safe)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from titan_sdk.cluster import stats
from titan_sdk.cluster.engines.ray.engine import RayEngine
from titan_sdk.cluster.master.admission import SubmissionRefused
from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.requests.artifacts import Files
from titan_sdk.cluster.requests.exactly_once import ExactlyOnce
from titan_sdk.cluster.requests.jobs import Jobs
from titan_sdk.cluster.requests.listing import Lists
from titan_sdk.cluster.requests.queries import JobQuestions
from titan_sdk.cluster.requests.titanstore import Values
from titan_sdk.cluster.server.server import TakeOver
from titan_sdk.cluster.store.changes import StoreFailed, Unstorable
from titan_sdk.errors import PeerProtocolError
from titan_sdk.runtime.bundle import runtime_bundle
from titan_sdk.wire import hello
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import STORE_FAILED, Opcode

__all__ = ["FEATURES", "Answered", "Requests"]

FEATURES = (
    "archive_args",
    "asset_delete",
    "changes",
    "chunked_artifacts",
    "completed_parents",
    "exact_text",
    "job_info",
    "keep_alive",
    "list",
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
"""Opcodes of Titan v1. Malformed requests of these get Titan's own error words only."""

Reply = str | bytes
Answered = Reply | TakeOver | Awaitable[Reply]
"""A reply, an awaitable of one, or the handler that takes the connection over."""
Handler = Callable[[Frame], Answered]


class Requests:
    """The table: opcode -> handler. The text of a failure begins with one of the words of section 1.1."""

    def __init__(self, master: Master, version: str) -> None:
        self._master = master
        self._version = version
        store = master.state.store
        jobs, questions = Jobs(master), JobQuestions(master)
        values, once = Values(store), ExactlyOnce(store.journal, self.carry_out)
        lists = Lists(master)
        keep = master.settings.keep_finished_seconds
        files = Files(master.uploads, master.scripts, master.data.root / "incoming", keep)
        self._by_opcode: dict[int, Handler] = {
            Opcode.SUBMIT_JOB: _text(jobs.submit_job),
            Opcode.SUBMIT_DAG: _text(jobs.submit_dag),
            Opcode.SUBMIT: _payload(jobs.submit),
            Opcode.GET_JOB_STATUS: _text(jobs.status),
            Opcode.DEPLOY: _text(jobs.deploy),
            Opcode.RUN: _text(jobs.run),
            Opcode.STOP: _text(jobs.stop),
            Opcode.CANCEL_JOB: _text(jobs.cancel),
            Opcode.GET_LOGS: _text(jobs.logs),
            Opcode.WAIT: _payload(questions.wait),
            Opcode.JOB_INFO: _payload(questions.info),
            Opcode.LOG_READ: _payload(questions.read_log),
            Opcode.LIST: _payload(lists.page),
            Opcode.CHANGES: _payload(lists.changes),
            Opcode.HELLO: _text(self._hello),
            Opcode.STATS: _text(self._stats),
            Opcode.STATS_JSON: _text(self._stats_json),
            Opcode.CLEAN_STATS: _text(self._clean_stats),
            Opcode.UNREGISTER_SERVICE: _text(self._unregister_service),
            Opcode.KILL_WORKER: _text(self._kill_worker),
            Opcode.UPLOAD_ASSET: _text(files.upload),
            Opcode.FETCH_ASSET: _text(files.fetch),
            Opcode.DEPLOY_SCRIPT: _text(files.deploy_script),
            Opcode.ASSET_WRITE: _payload(files.write),
            Opcode.ASSET_READ: _payload(files.read),
            Opcode.ASSET_DELETE: _payload(files.delete),
            Opcode.KV_GET: _text(values.get),
            Opcode.KV_SMEMBERS: _text(values.members),
            Opcode.STORE_KEYS: _payload(values.keys),
            Opcode.KV_SET: values.change,
            Opcode.KV_SADD: values.change,
            Opcode.STORE_DELETE: values.change,
            Opcode.STORE_SWAP: values.change,
            Opcode.STORE_EXPIRE: values.change,
            Opcode.ONCE: _payload(once.answer),
        }
        if isinstance(master.engine, RayEngine):
            self._by_opcode[Opcode.ENGINE] = _payload(master.engine.answer)

    def answer(self, frame: Frame) -> Answered:
        """The reply, or an awaitable of it. ``sentence`` turns an exception of either into a reply."""
        handler = self._by_opcode.get(frame.opcode)
        return _unknown(frame.opcode) if handler is None else handler(frame)

    @staticmethod
    def sentence(opcode: int, exc: Exception) -> str | None:
        """The reply to a failed request, as a real master words it; ``None`` for an unexpected failure."""
        if isinstance(exc, Unstorable):
            return f"ERROR: a text that UTF-8 cannot hold: {exc}"
        if isinstance(exc, StoreFailed):
            return f"{STORE_FAILED}{exc}"
        if isinstance(exc, PeerProtocolError) and opcode not in _PAIRS:
            return f"ERROR: {Opcode(opcode).name}: {exc}"
        return f"ERROR: {exc}" if isinstance(exc, SubmissionRefused | PeerProtocolError) else None

    async def carry_out(self, frame: Frame) -> Reply:
        """The reply, or that of the failure."""
        try:
            answered = self.answer(frame)
            assert not isinstance(answered, TakeOver)
            return answered if isinstance(answered, str | bytes) else await answered
        except (SubmissionRefused, PeerProtocolError, StoreFailed) as exc:
            return self.sentence(frame.opcode, exc) or str(exc)

    # ------------------------------------------------------------------ the cluster

    def _hello(self, _: str) -> str:
        return hello.reply(self._version, FEATURES, runtime_bundle().sha256)

    def _stats(self, _: str) -> str:
        return stats.stats_text(self._master)

    def _stats_json(self, _: str) -> str:
        return stats.stats_json(self._master, self._version)

    def _clean_stats(self, _: str) -> str:
        # A real master forgets its services here, and can then no longer stop them. This one keeps them.
        self._master.state.activity.clear()
        return "Stats Map Cleared. Run STATS again to see fresh state."

    def _unregister_service(self, _: str) -> str:
        # A worker sends this when its service has ended. This master sees that itself; if it believed a client, a
        # running service could no longer be stopped.
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


def _text(handler: Callable[[str], Answered]) -> Handler:
    return lambda frame: handler(frame.text)


def _payload(handler: Callable[[bytes], Answered]) -> Handler:
    return lambda frame: handler(frame.payload)


def _unknown(opcode: int) -> str:
    if opcode in _WORKER_ONLY:
        return (
            f"ERROR: opcode 0x{opcode:02X} ({Opcode(opcode).name}) is for workers of a distributed Titan; "
            "this master runs its workers itself and accepts it from nobody"
        )
    return f"UNKNOWN_OPCODE: {opcode - 256 if opcode > 127 else opcode}"
