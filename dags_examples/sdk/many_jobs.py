"""The asyncio client: submit ten jobs at once and wait for all of them together."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from titan_sdk import AsyncTitanClient, TitanJob


async def main() -> None:
    run = uuid4().hex[:8]
    jobs = [TitanJob(f"part{n}-{run}", "etl/extract.py", args=["--rows", str(n)]) for n in range(10)]
    async with AsyncTitanClient() as client:
        handles = await asyncio.gather(*(client.submit_job(job) for job in jobs))
        reports = await asyncio.gather(*(handle.wait(timeout=60) for handle in handles))
    print("rows:", sum(report.result["rows"] for report in reports))


if __name__ == "__main__":
    asyncio.run(main())
