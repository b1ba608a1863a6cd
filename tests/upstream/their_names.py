"""Upstream's module ``titan_sdk.titan_sdk`` spelt with this SDK: its names, and nothing that would change a result.

Public names are ours under theirs. Three private ones that upstream's tests take hold of are given too: the one request
that everything goes through, the rewiring for approval gates, and the manifest's file. ``test_their_tests.py`` puts
this file where those tests import from.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import titan_sdk
from titan_sdk.config import ClientConfig
from titan_sdk.drivers import Driver
from titan_sdk.flows.staging import plain_line
from titan_sdk.model.gates import add_gates
from titan_sdk.model.manifest import dashboard_manifest
from titan_sdk.runtime.gate import GATE_SCRIPT
from titan_sdk.transport import sync
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.jobs import encode_line
from titan_sdk.wire.opcodes import Opcode, reply_opcode

TITAN_HOST = os.environ.get("TITAN_HOST", "127.0.0.1")
TITAN_PORT = int(os.environ.get("TITAN_PORT", "9090"))
OP_KV_SET, OP_KV_GET = Opcode.KV_SET, Opcode.KV_GET
OP_KV_SADD, OP_KV_SMEMBERS = Opcode.KV_SADD, Opcode.KV_SMEMBERS
OP_UPLOAD_ASSET, OP_DEPLOY_SCRIPT = Opcode.UPLOAD_ASSET, Opcode.DEPLOY_SCRIPT
MANIFEST = Path(".titan_dag_manifest.json")


class TitanJob(titan_sdk.TitanJob):
    """Ours, with the two serialised forms that upstream's tests read."""

    @property
    def payload_b64(self) -> str:
        return "REMOTE_ASSET" if self.is_archive else self.to_string().split("|")[4]

    def to_string(self) -> str:
        content = b"" if self.is_archive else Path(self.filename).read_bytes()
        return encode_line(plain_line(self, content, self.parent_ids, ""))


class _Gated:
    """A job as upstream's tests look at it: parents as a list, arguments as one text."""

    def __init__(self, job: titan_sdk.TitanJob) -> None:
        self.id, self.priority = job.id, job.priority
        self.parents, self.args = list(job.parents or ()), job.plain_args


class _OneRequest(Driver):
    """Ours, with every exchange made by the client's ``_send_request``, which upstream's tests replace."""

    def __init__(self, client: TitanClient) -> None:
        super().__init__(client._session)
        self._client = client

    def _exchange(self, call: Any, opcode: int, payload: bytes) -> Frame:
        if call.opcode is Opcode.HELLO and TitanClient._send_request is not _SEND_REQUEST:
            # With a canned answer to everything there is no master that could be asked who it is.
            return Frame(Opcode.ACK, b'{"server":"bundled","version":"1","features":["sadd_reply"]}')
        text = self._client._send_request(opcode, payload.decode())
        return Frame(reply_opcode(text), text.encode())


class TitanClient(titan_sdk.TitanClient):
    """Ours, reading the address when it is made, on one request per connection as upstream's."""

    def __init__(self) -> None:
        super().__init__(config=ClientConfig(TITAN_HOST, TITAN_PORT, keep_alive=False))
        self._driver = _OneRequest(self)

    def _send_request(self, opcode: int, payload: str) -> str:
        return sync.exchange(self.config, "request", opcode, payload.encode()).text

    def _inject_hitl_gates(self, jobs: list[TitanJob]) -> list[_Gated]:
        return [_Gated(job) for job in add_gates(jobs, str(GATE_SCRIPT))[0]]

    def _write_dag_manifest(
        self, dag: str, jobs: list[TitanJob], dag_payload: str | None = None, agent_run_id: str | None = None
    ) -> None:
        """What ours hands to the dashboard, merged into a file as the dashboard merges it."""
        known = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
        before = known.get(f"__agent_run__{agent_run_id}", {}).get("stages", [])
        fresh = dashboard_manifest(
            dag,
            {job.id: job.parent_ids for job in jobs},
            int(time.time() * 1000),
            agent_run_id=agent_run_id,
            stages=[*before, *({dag} - set(before))],
            replayable={job.id: (job.to_string(), job.to_string()) for job in jobs} if dag_payload else None,
        )
        MANIFEST.write_text(json.dumps({**known, **fresh}))


_SEND_REQUEST = TitanClient._send_request
