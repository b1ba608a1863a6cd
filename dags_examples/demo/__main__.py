"""`make demo`: a real Airflow runs example_titan_pipeline on a local Titan cluster, and nothing is left running.

Exit status 0 only if every task and job succeeded, the results are in TitanStore, and all processes are gone.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from dags_examples.demo import airflow_run, cluster, report, xcoms
from dags_examples.demo.processes import DemoFailed, ProcessGroup

DAG_ID = "example_titan_pipeline"


def main() -> int:
    console = Console(highlight=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="titan-demo-"))
    started = time.monotonic()
    try:
        run(console, folder)
    except DemoFailed as exc:
        console.print(f"[bold red]demo: FAILED[/] {exc}", markup=True)
        console.print(f"full logs: {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    console.print(f"\n[bold green]demo: OK[/] [dim]({time.monotonic() - started:.0f} s)[/]")
    return 0


def run(console: Console, folder: Path) -> None:
    """All steps of the demo; whatever happens, every process it started is ended."""
    with ProcessGroup() as processes:
        address = cluster.start(processes, folder)
        console.print(f"[bold]Titan[/] bundled master on {address}, workers: 2 GENERAL, 1 GPU")
        environ = airflow_run.environment(folder, address)
        console.print("[bold]Airflow[/] creating its database (temporary AIRFLOW_HOME)")
        airflow_run.migrate(environ, folder)
        console.print(f"[bold]Airflow[/] running {DAG_ID}")
        airflow_run.run_dag(DAG_ID, environ, folder, address, console)
        jobs = report.collect(address)
        console.print(report.table(jobs))
        report.check(jobs)
        xcoms.check(DAG_ID, Path(environ["AIRFLOW_HOME"]), address, console)
    left = processes.survivors()
    if left:
        raise DemoFailed(f"processes are still running: {', '.join(map(str, left))}")


if __name__ == "__main__":
    sys.exit(main())
