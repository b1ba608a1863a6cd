"""Jobs and services: submitted, asked about, stopped (protocol sections 2, 4 and 6)."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Awaitable

from titan_sdk.cluster.artifacts import OutsideArea
from titan_sdk.cluster.master.admission import check_job
from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.requests.submissions import checked_dag

__all__ = ["Jobs"]


class Jobs:
    """Requests of Titan v1 about jobs."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._state = master.state
        self._scripts = master.scripts

    async def submit_dag(self, payload: str) -> str:
        lines, numbers = await checked_dag(self._state, payload)
        await self._master.submit(lines, numbers)
        return "DAG_ACCEPTED"

    def status(self, payload: str) -> str | Awaitable[str]:
        job_id = payload.strip()
        if self._master.is_arriving(job_id) or not self._state.is_at_hand(job_id):
            return self._status_when_arrived(job_id)
        return self._state.lookup(job_id) or "NULL"

    async def _status_when_arrived(self, job_id: str) -> str:
        await self._master.arrived(job_id)
        await self._state.resolve(job_id)
        return self._state.lookup(job_id) or "NULL"

    async def submit_job(self, payload: str) -> str:
        await self._master.submit([check_job(payload)], {})
        return "JOB_ACCEPTED"

    async def run(self, payload: str) -> str:
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

    async def deploy(self, payload: str) -> str:
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

    async def cancel(self, payload: str) -> str:
        await self._master.arrived(payload.strip())
        found = await self._master.cancel(await self._state.resolve(payload.strip()))
        return "CANCELLED" if found else "NOT_FOUND"

    async def logs(self, payload: str) -> str:
        return await self._state.logs.read(await self._state.resolve(payload.strip()))

    async def stop(self, payload: str) -> str:
        given = payload.strip()
        if not given:
            return "ERROR: Missing Service ID"
        job_id = await self._state.resolve(given)
        if await self._master.stop_service(job_id):
            return f"STOPPED: {job_id}"
        live = ", ".join(self._master.services.live())
        return f"ERROR: Service {given} not found in liveServiceMap. Current keys: [{live}]"
