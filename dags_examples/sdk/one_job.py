"""Submit one job, show its log while it runs, and use what it returns."""

from __future__ import annotations

from uuid import uuid4

from titan_sdk import TitanClient, TitanJob


def main() -> None:
    with TitanClient() as client:
        # Ids are permanent on a master: a new one for each run.
        job = TitanJob(
            f"extract-{uuid4().hex[:8]}", "etl/extract.py", args=["--rows", "3"], params={"source": "shop"}
        )
        handle = client.submit_job(job)
        for line in handle.follow_logs():
            print(f"  {line}")
        report = handle.wait(timeout=60)
        print(f"{report.job_id} {report.state} on {report.worker}: {report.result}")


if __name__ == "__main__":
    main()
