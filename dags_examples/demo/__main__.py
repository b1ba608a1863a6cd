"""`make demo`: a real Airflow runs example_titan_pipeline on a local Titan cluster, and nothing is left running.

Exit status 0 only if every task and job succeeded, the results are in TitanStore, and all processes are gone.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from dags_examples.demo import airflow_run, cluster, report, xcoms
from dags_examples.demo.processes import DemoFailed, ProcessGroup

DAG_ID = "example_titan_pipeline"
STARTED = time.time()


def main() -> int:
    console = Console(highlight=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="titan-demo-"))
    try:
        run(console, folder)
    except DemoFailed as exc:
        console.print(f"[bold red]demo: FAILED[/] {escape(str(exc))}")
        console.print(f"full logs: {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    console.print(f"nothing is left running; the demo took {elapsed()}")
    console.print("[bold green]demo: OK[/]")
    return 0


def run(console: Console, folder: Path) -> None:
    """All steps of the demo; whatever happens, every process it started is ended."""
    with ProcessGroup() as processes:
        address = cluster.start(processes, folder)
        console.print(f"[bold]Titan[/] bundled master on {address}, workers: {cluster.describe(address)}")
        environ = airflow_run.environment(folder, address)
        console.print("[bold]Airflow[/] creating its database (temporary AIRFLOW_HOME)")
        airflow_run.migrate(environ, folder)
        console.print(f"[bold]Airflow[/] running {DAG_ID}")
        airflow_run.run_dag(DAG_ID, environ, folder, address, console)
        xcoms.check(DAG_ID, Path(environ["AIRFLOW_HOME"]), address, console)
        jobs = report.collect(address)
        report.check(jobs)
        console.print(report.table(jobs))
    left = processes.survivors()
    if left:
        raise DemoFailed(f"processes are still running: {', '.join(map(str, left))}")


def elapsed() -> str:
    """Since `make demo` was called where that is known (it includes the setup), else since this process started."""
    since = os.environ.get("MAKE_DEMO_STARTED")
    seconds = round(time.time() - (float(since) if since else STARTED))
    return f"{seconds // 60} min {seconds % 60:02d} s" + (" with its setup" if since else "")


if __name__ == "__main__":
    sys.exit(main())
