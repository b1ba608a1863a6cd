"""Runs a flow against answers given by a function: no socket, no clock, no waiting."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from titan_sdk.flows.core import STEP_ERRORS, Ask, Blocking, Flow, FlowRun, Now, Pause
from titan_sdk.runtime.bundle import runtime_bundle
from titan_sdk.wire import statsjson
from titan_sdk.wire.calls import Call
from titan_sdk.wire.extensions import Submit
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import Opcode, reply_opcode

T = TypeVar("T")
Answer = Callable[[Call[Any]], str | bytes]


class FlowRunner:
    """Answers every call with text from ``answer`` (which may raise); time passes only by pauses."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.time = 0.0
        self.calls: list[tuple[Opcode, str]] = []

    def run(self, flow: Flow[T]) -> T:
        run = FlowRun(flow)
        while run.step is not None:
            try:
                outcome = self._do(run.step)
            except STEP_ERRORS as exc:
                run.fail(exc)
            else:
                run.answer(outcome)
        return run.result

    def _do(self, step: Any) -> Any:
        match step:
            case Ask(call):
                self.calls.append((call.opcode, call.payload))
                reply = self._answer(call)
                payload = reply if isinstance(reply, bytes) else reply.encode()
                return call.read(Frame(reply_opcode(payload.decode(errors="replace")), payload))
            case Pause(seconds):
                self.time += seconds
                return None
            case Now():
                return self.time
            case Blocking(function):
                return function()

    def sent(self, opcode: Opcode) -> list[str]:
        """Payloads of all calls with that opcode, in order."""
        return [payload for code, payload in self.calls if code is opcode]


class MasterModel:
    """The few replies that flows need, in memory; tests change its fields to misbehave."""

    def __init__(self, *, bundled: bool = False) -> None:
        self.bundled = bundled
        self.features = ["strict_submit", "completed_parents", "archive_args", "sadd_reply"]
        """Those that a bundled one announces."""
        self.status: dict[str, str] = {}
        self.kv: dict[str, str] = {}
        self.assets: dict[str, str] = {}
        """Base64, by name."""
        self.tags = ["GENERAL", "GPU"]
        self.on_submit: Callable[[str], str] = self.accept

    def complete(self, full_id: str) -> None:
        """End a job well, and leave the record that its runtime leaves."""
        self.status[full_id] = "COMPLETED"
        nonce = json.loads(self.kv.get(f"titan:job:{full_id}", '{"nonce":null}'))["nonce"]
        if nonce:
            self.leave_success(full_id, nonce)

    def leave_success(self, full_id: str, nonce: str) -> None:
        """The record of a submission that ended well, as its runtime leaves it."""
        state = {
            "v": 1,
            "state": "succeeded",
            "attempt": 1,
            "token": "t",
            "worker": "w",
            "host": "h",
            "pid": 1,
        }
        self.kv[f"titan:run:{full_id}:{nonce}:state"] = json.dumps(state)

    def accept(self, payload: str) -> str:
        """Take every line of a DAG."""
        for line in payload.split(" ; "):
            job_id = line.split("|")[0]
            self.status[job_id if job_id.startswith("DAG-") else f"DAG-{job_id}"] = "PENDING"
        return "DAG_ACCEPTED"

    def report(self, full_id: str, nonce: str | None) -> dict[str, str | None]:
        """What WAIT tells of a run."""
        nonce = nonce or json.loads(self.kv.get(f"titan:job:{full_id}", '{"nonce":null}'))["nonce"]
        return {"nonce": nonce, "record": self.kv.get(f"titan:run:{full_id}:{nonce}:state")}

    def _short(self, call: Call[Any]) -> str:
        if call.opcode is Opcode.SUBMIT:
            request = Submit.decode(call.encoded())
            self.on_submit(request.dag)
            self.kv.update(request.values)
            return '{"taken":true}'
        asked = json.loads(call.payload)
        states = {job_id: self.status.get(job_id, "NULL") for job_id in asked["ids"]}
        reports = {job_id: self.report(job_id, nonce) for job_id, nonce in asked.get("reports", {}).items()}
        return json.dumps({"states": states, "reports": reports})

    def __call__(self, call: Call[Any]) -> str:
        match call.opcode:
            case Opcode.SUBMIT | Opcode.WAIT:
                return self._short(call)
            case Opcode.HELLO:
                hello = {
                    "server": "x",
                    "version": "1",
                    "features": self.features,
                    "runtime": runtime_bundle().sha256,
                }
                return json.dumps(hello) if self.bundled else "UNKNOWN_OPCODE: 64"
            case Opcode.GET_JOB_STATUS:
                return self.status.get(call.payload, "NULL")
            case Opcode.STATS_JSON:
                return statsjson.encode([_worker(index, tag) for index, tag in enumerate(self.tags)], 0)
            case Opcode.SUBMIT_DAG:
                return self.on_submit(call.payload)
            case Opcode.KV_SET:
                key, _, value = call.payload.partition("|")
                self.kv[key] = value
                return "OK"
            case Opcode.KV_GET:
                return self.kv.get(call.payload, "NULL")
            case Opcode.UPLOAD_ASSET:
                name, _, self.assets[name] = call.payload.partition("|")
                return "UPLOAD_SUCCESS"
            case Opcode.FETCH_ASSET:
                return self.assets.get(call.payload, "ERROR_NOT_FOUND")
            case Opcode.CANCEL_JOB:
                self.status[call.payload] = "CANCELLED"
                return "CANCELLED"
            case Opcode.GET_LOGS:
                return self.kv.get("log:" + call.payload, "")
        raise AssertionError(f"no answer for {call}")


def _worker(index: int, tag: str) -> dict[str, Any]:
    empty = {"active_job": None, "history": [], "services": []}
    return {"port": 8080 + index, "capabilities": f"[{tag}]", "load": "0/4", **empty}
