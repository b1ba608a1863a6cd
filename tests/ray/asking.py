"""What the master knows of a job."""

from __future__ import annotations

import json
from typing import Any

from tests.sdk.cluster.peer import Peer
from titan_sdk.wire.extensions import JobInfo
from titan_sdk.wire.opcodes import Opcode

__all__ = ["history", "info"]


def info(peer: Peer, job_id: str) -> dict[str, Any]:
    """The answer to JOB_INFO."""
    reply = peer.ask(Opcode.JOB_INFO, JobInfo(job_id).encode())
    return dict(json.loads(reply.text))


def history(peer: Peer, job_id: str) -> list[str]:
    """What happened to it, without the times."""
    return [text for _, text in info(peer, job_id)["history"]]
