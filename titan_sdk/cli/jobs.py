"""``titan submit``, ``titan logs``, ``titan cancel``: single jobs."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from titan_sdk import values
from titan_sdk.cli.context import CliSession, command
from titan_sdk.cli.durations import DURATION
from titan_sdk.cli.exit_codes import complain, reported
from titan_sdk.cli.uploads import uploading
from titan_sdk.cli.watch import show_lines, warn_of_missing_tags, watch_job
from titan_sdk.client import TitanClient
from titan_sdk.errors import InvalidArgument, JobFailed, NotFound
from titan_sdk.flows import submit as submit_flow
from titan_sdk.handles import DagHandle, JobHandle
from titan_sdk.model.job import TitanJob
from titan_sdk.model.status import JobStatus

__all__ = ["job_id_for", "register"]

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, with or without DAG-.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "submit")(submit)
    command(app, "logs")(logs)
    command(app, "cancel")(cancel)


def submit(
    session: CliSession,
    file: Annotated[
        str | None,
        typer.Argument(
            help="The script: Python, shell, or any executable; or a folder with a __main__.py, which travels whole. "
            "With --project, a file of that folder.",
            show_default=False,
        ),
    ] = None,
    args: Annotated[
        list[str] | None,
        typer.Argument(help="Its arguments, passed exactly; put -- before those that begin with -."),
    ] = None,
    job_id: Annotated[
        str | None,
        typer.Option("--id", help="Default: the file's name and a random ending.", show_default=False),
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", help="Folder that travels with the job.", metavar="FOLDER")
    ] = None,
    module: Annotated[
        str | None,
        typer.Option("--module", "-m", help="Module to run, as by python -m, in place of a file."),
    ] = None,
    cwd: Annotated[
        str,
        typer.Option(
            "--cwd", help="Where a job with a project runs: project, its root, or worker.", metavar="WHERE"
        ),
    ] = "project",
    requirement: Annotated[
        str, typer.Option("--requirement", "-r", help="Tag the worker must have.")
    ] = "GENERAL",
    requirements: Annotated[
        str | None,
        typer.Option(
            "--requirements",
            help="File of the packages it needs: requirements.txt, uv.lock, pylock.toml, pyproject.toml.",
            metavar="FILE",
        ),
    ] = None,
    packages: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PACKAGE", help="Package that it needs, as 'numpy>=2'; repeatable."),
    ] = None,
    inherit_packages: Annotated[
        bool, typer.Option("--inherit-packages", help="It sees the worker's own packages, too.")
    ] = False,
    priority: Annotated[int, typer.Option("--priority", help="Higher runs first.")] = 1,
    delay: Annotated[
        float, typer.Option("--delay", help="Time before it may start: seconds, or 10m, 1h30m.", **DURATION)
    ] = 0.0,
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", metavar="K=V", help="Environment variable; repeatable.")
    ] = None,
    params: Annotated[
        str | None,
        typer.Option("--params", help="JSON that the script reads as titan_job.params.", metavar="JSON"),
    ] = None,
    python: Annotated[str | None, typer.Option("--python", help="Interpreter on the worker.")] = None,
    max_attempts: Annotated[
        int, typer.Option("--max-attempts", help="How often it may be started in all.")
    ] = 1,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Time it may run: seconds, or 10m, 1h30m.", **DURATION)
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait for the end; exit code 1 if it fails.")
    ] = False,
    follow: Annotated[
        bool | None,
        typer.Option(
            "--follow/--no-follow", "-f/-F", help="Wait, and show its output or not.", show_default=False
        ),
    ] = None,
    wait_timeout: Annotated[
        float | None,
        typer.Option(
            "--wait-timeout", help="Time to wait; then exit code 6, and the job goes on.", **DURATION
        ),
    ] = None,
) -> None:
    """Run a script, a module, or a folder of them, on the cluster."""
    if module is not None and file is not None:
        # The module is what runs: the words behind it are its arguments.
        args, file = [file, *(args or [])], None
    if file is None and module is None:
        raise InvalidArgument("nothing says what to run; give a file, or --module")
    if packages and requirements:
        raise InvalidArgument("--requirements and --with: give the file, or the packages")
    name = module or str(file)
    if file is not None and project is None and Path(file).is_dir():
        project, file = _check_folder(Path(file)), "__main__.py"
    job = TitanJob(
        job_id or (module_job_id(module) if module is not None else job_id_for(Path(name).resolve())),
        file or "",
        module=module,
        project=project,
        cwd=cwd,
        args=args or None,
        requirement=requirement,
        requirements=packages or requirements,
        inherit_packages=inherit_packages,
        priority=priority,
        delay=round(delay * 1000),
        env=_parse_env(env or []),
        params=_parse_params(params),
        python=python,
        max_attempts=max_attempts,
        timeout=timeout,
    )
    with session.client() as client:
        with uploading(session, f"uploading {project}") as progress:
            flow = submit_flow.submit_dag(client._session, job.job_id, [job], progress=progress)
            handle = DagHandle(client, client._run(flow)).jobs[0]
        warn_of_missing_tags(client, [job])
        if wait or follow or wait_timeout is not None:
            _await_end(session, client, handle, follow, wait_timeout)
        else:
            _say_submitted(session, handle)


def _check_folder(folder: Path) -> str:
    """The folder as a job's project, whose ``__main__.py`` runs.

    Raises:
        InvalidArgument: nothing says which of its files is to run.
    """
    if (folder / "__main__.py").is_file():
        return str(folder)
    pipelines = sorted(path.name for pattern in ("*.yaml", "*.yml") for path in folder.glob(pattern))
    scripts = sorted(path.name for path in folder.glob("*.py"))
    ways = [f"titan dag submit {folder / pipelines[0]}"] if pipelines else []
    ways += [f"titan submit {folder / scripts[0]} (that file alone)"] if scripts else []
    ways.append(f"titan submit --project {folder} FILE, and the whole folder travels")
    ways.append("call the file that begins __main__.py")
    raise InvalidArgument(f"{str(folder)!r} is a folder; say which file is to run: {', or '.join(ways)}")


def _say_submitted(session: CliSession, handle: JobHandle) -> None:
    facts = {"job_id": handle.job_id, "full_id": handle.full_id, "nonce": handle.nonce}
    session.output.answer(facts, f"submitted {handle.job_id}")


def _await_end(
    session: CliSession, client: TitanClient, handle: JobHandle, follow: bool | None, timeout: float | None
) -> None:
    """Show and wait. With ``--json`` stdout is the report alone, so output lines go to stderr and only if asked for."""
    show = _to_stderr if session.as_json else session.output.line
    shown = follow if follow is not None else not session.as_json
    goes_on = f"interrupted; the job goes on, `titan cancel {handle.job_id}` ends it"
    with reported(goes_on):
        report = watch_job(client, handle, session.output, timeout=timeout, show=show if shown else None)
    text = f"{report.describe()}" + (f" after {report.seconds:.2f} s" if report.seconds is not None else "")
    if report.has_result:
        text += f"\nresult: {json.dumps(values.dump(report.result), ensure_ascii=False)}"
    session.output.answer(report, text if report.state.is_success else None)
    if not report.state.is_success:
        raise JobFailed(report)


def _to_stderr(line: str) -> None:
    typer.echo(line, err=True)


def job_id_for(file: Path) -> str:
    """A new id that tells the script: ids are permanent on a master, so each submit needs its own."""
    return _new_id(file.stem)


def module_job_id(module: str) -> str:
    """The same of a module."""
    return _new_id(module)


def _new_id(stem: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "job"
    return f"{stem[:150]}-{secrets.token_hex(4)}"


def _parse_env(pairs: list[str]) -> dict[str, str]:
    env: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"--env {pair!r} is not NAME=VALUE")
        env[name] = value
    return env


def _parse_params(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as exc:
        raise InvalidArgument(
            f"--params {text!r} is not JSON ({exc}); quote it for the shell: '{{\"n\": 1}}'"
        ) from exc


def logs(
    session: CliSession,
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
) -> None:
    """Print what a job has printed."""
    with session.client() as client:
        if client.get_job_status(job_id) is JobStatus.UNKNOWN:
            raise NotFound(
                f"the master at {client.config.address} does not know the job {job_id!r}; "
                "`titan status` shows the latest ids"
            )
        if follow:
            lines = client.follow_logs(job_id)
            if session.as_json:
                for line in (line for line in lines if line.is_final):
                    session.output.answer({"job_id": job_id, "line": line})
            else:
                show_lines(lines, session.output)
            return
        text = client.fetch_logs(job_id)
    session.output.answer({"job_id": job_id, "text": text}, text.removesuffix("\n") if text else None)


def cancel(session: CliSession, job_id: JobId) -> None:
    """Cancel a job; one that has ended is left as it is."""
    with session.client() as client:
        state = client.cancel_job(job_id)
    before = " (it had ended before)" if state.is_terminal and state is not JobStatus.CANCELLED else ""
    session.output.answer({"job_id": job_id, "state": state}, f"{job_id}: {state}{before}")
    if state is JobStatus.PENDING:
        complain(
            f"job {job_id!r} is not cancelled: a real Titan starts a delayed job without the runtime despite a cancel. "
            "Nothing was sent; cancel it once it runs"
        )
    elif state is JobStatus.UNKNOWN:
        complain(
            f"job {job_id!r} was submitted by another client: a queued job does not run, but a delayed one runs on a "
            "real Titan when due"
        )
    elif not state.is_terminal:
        complain(
            f"job {job_id!r} is still {state}; the master took the cancel, ask again with `titan status`"
        )
