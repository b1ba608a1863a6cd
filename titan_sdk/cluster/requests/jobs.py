"""Submitting, cancelling and stopping jobs and services, and asking for their states (protocol sections 2, 4 and 6)."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Awaitable, Sequence

from titan_sdk.cluster import sdk_keys
from titan_sdk.cluster.artifacts import OutsideArea
from titan_sdk.cluster.master.admission import check_dag, check_job
from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.store.changes import Change, Delete, Put
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.extensions import Submit, write_object

__all__ = ["Jobs"]

_IN_USE = {JobStatus.PENDING, JobStatus.RUNNING, JobStatus.CANCELLED}


class Jobs:
    """Titan v1's requests about jobs, and SUBMIT."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._state = master.state
        self._scripts = master.scripts

    async def submit_dag(self, payload: str) -> str:
        lines, numbers = await check_dag(payload, self._state.numbers)
        await self._master.submit(lines, numbers)
        return "DAG_ACCEPTED"

    async def submit(self, payload: bytes) -> str:
        """Take a DAG and its TitanStore values in one transaction: all of it, or nothing. A copy of a taken submission is
        answered like the first one.
        """
        request = Submit.decode(payload)
        lines, numbers = await check_dag(request.dag, self._state.numbers)
        ids = [line.job_id for line in lines]
        while True:
            await self._master.arrived(ids)
            known = await self._state.numbers(ids)
            if len(known) == len(ids) and await self._state.store.get(request.mark) is not None:
                return write_object(taken=True)
            # A copy may have arrived meanwhile, and may be on its way into the store.
            if not self._master.is_arriving(ids):
                break
        for job_id in known:
            state = self._state.status(job_id)
            if state in _IN_USE:
                return write_object(taken=False, id=job_id, state=state)
        dag = sdk_keys.dag_of(request.mark)
        if dag is not None and sdk_keys.is_job(dag[0], ids):
            dag = None
        await self._master.submit(lines, numbers, _values(request, list(known)), dag)
        return write_object(taken=True)

    def status(self, payload: str) -> str | Awaitable[str]:
        job_id = payload.strip()
        if self._master.is_arriving((job_id,)) or not self._state.is_at_hand(job_id):
            return self._status_when_arrived(job_id)
        return self._state.lookup(job_id) or "NULL"

    async def _status_when_arrived(self, job_id: str) -> str:
        await self._master.arrived((job_id,))
        await self._state.resolve(job_id)
        return self._state.lookup(job_id) or "NULL"

    async def submit_job(self, payload: str) -> str:
        await self._master.submit([check_job(payload)], {})
        return "JOB_ACCEPTED"

    async def run(self, payload: str) -> str:
        """``file|requirement``: a job. The reply names its id."""
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
        # A real master answers without a separator.
        return f"JOB_QUEUED{job_id} on {requirement}"

    async def deploy(self, payload: str) -> str:
        """``file|port|requirement``: a service. The master chooses its id, which the statistics show."""
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
        await self._master.arrived((payload.strip(),))
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


def _values(request: Submit, known: Sequence[str]) -> list[Change]:
    """The values to store, and the removal of the records of earlier submissions of these ids."""
    old = (sdk_keys.record_key(job_id) for job_id in known)
    return [
        *(Delete(key) for key in old if key not in request.values),
        *(Put(key, value) for key, value in request.values.items()),
    ]
