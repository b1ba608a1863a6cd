"""RUN and DEPLOY: jobs from scripts that were put on the master earlier (``perm_files``)."""

from __future__ import annotations

import asyncio
import base64
import uuid

from titan_sdk.cluster.admission import check_job
from titan_sdk.cluster.artifacts import Area, OutsideArea
from titan_sdk.cluster.master import Master

__all__ = ["deploy_by_name", "run_by_name"]


async def run_by_name(master: Master, scripts: Area, payload: str) -> str:
    """``file|requirement``: a job under an id that the reply tells."""
    name, _, requirement = payload.partition("|")
    if not name.strip():
        return "ERROR: Missing filename"
    found = await asyncio.to_thread(scripts.find, name.strip())
    if found is None:
        return "ERROR: File not found recursively in perm_files"
    requirement = requirement.strip() or "GENERAL"
    job_id = f"TSK-{uuid.uuid4()}"
    try:
        content = base64.b64encode(await asyncio.to_thread(scripts.read, found)).decode("ascii")
    except (OutsideArea, OSError):
        return "ERROR: Server File IO issue"
    base_name = found.rpartition("/")[2]
    line = check_job(f"{job_id}|RUN_PAYLOAD|{base_name}||{content}|{requirement}|1|0")
    await master.submit([line])
    # No separator: that is what a real master answers.
    return f"JOB_QUEUED{job_id} on {requirement}"


async def deploy_by_name(master: Master, scripts: Area, payload: str) -> str:
    """``file|port|requirement``: a service under an id of the master's choice (see the statistics)."""
    name, port, requirement, *_ = [*(part.strip() for part in payload.split("|")), "", "", ""]
    try:
        content = base64.b64encode(await asyncio.to_thread(scripts.read, name)).decode("ascii")
    except (OutsideArea, FileNotFoundError):
        return "ERROR: File not found in perm_files"
    except OSError:
        return "ERROR: Server File IO issue"
    base_name = name.rpartition("/")[2]
    job_id = f"TSK-{uuid.uuid4()}"
    line = check_job(
        f"{job_id}|DEPLOY_PAYLOAD|{base_name}|{content}|{port or 0}|{requirement or 'GENERAL'}|1|0"
    )
    await master.submit([line])
    return "DEPLOY_QUEUED"
