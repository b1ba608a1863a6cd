"""``titan upload`` and ``titan artifacts``: files and folders in the artifact registry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from titan_sdk.cli.context import CliSession, CommandGroup, command
from titan_sdk.cli.uploads import uploading
from titan_sdk.errors import InvalidArgument, NotFound
from titan_sdk.model.files import FileRef

if TYPE_CHECKING:
    from titan_sdk.client import TitanClient

__all__ = ["register"]

artifacts = typer.Typer(
    name="artifacts",
    cls=CommandGroup,
    no_args_is_help=True,
    help="List, fetch and remove files of the registry.",
)
Job = Annotated[
    str | None,
    typer.Option("--job", help="Of this job's latest run: what it has published, by the names it gave them."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "upload")(upload)
    app.add_typer(artifacts)


def upload(
    session: CliSession,
    path: Annotated[Path, typer.Argument(help="A file, or a folder, which is zipped.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Project name of a folder: it is stored as NAME.zip.")
    ] = None,
) -> None:
    """Store a file or folder in the artifact registry; a real Titan takes up to about 7.86 MB."""
    if name is not None and not path.is_dir():
        raise InvalidArgument(f"--name names a folder's zip, but {str(path)!r} is not a folder")
    with session.client() as client, uploading(session, f"uploading {path.name or path}") as progress:
        ref = (
            client.upload_project_folder(path, name, progress=progress)
            if path.is_dir()
            else client.upload_file(path, progress=progress)
        )
    facts = {"name": ref.name, "bytes": ref.bytes, "sha256": ref.sha256}
    session.output.answer(facts, f"uploaded {ref.name} ({ref.bytes:,} bytes, sha256 {ref.sha256})")


@command(artifacts, "ls")
def ls(
    session: CliSession,
    prefix: Annotated[str | None, typer.Argument(help="How the names begin.")] = None,
    job: Job = None,
    limit: Annotated[int, typer.Option(help="How many at most, the newest first.", min=1, max=1000)] = 100,
) -> None:
    """List artifacts; a real Titan can list those of a job only (--job)."""
    if prefix is not None and job is not None:
        raise InvalidArgument("artifacts ls: a job's files are listed by --job alone; leave the prefix out")
    with session.client() as client:
        if job is not None:
            left = _left_by(client, job)
            rows = [f"{name:<20} {ref.size:>14,}  {ref.name}" for name, ref in left]
            session.output.answer(
                [{"output": name} | ref.to_json() for name, ref in left], "\n".join(rows) or None
            )
            return
        page = client.list_artifacts(prefix=prefix, limit=limit)
    lines = [
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(found.modified_at))} {found.size:>14,}  {found.name}"
        for found in page.items
    ]
    if page.cursor is not None:
        lines.append(f"(the newest {len(lines)}; there are more: give a prefix, or --limit)")
    session.output.answer(page.items, "\n".join(lines) or None)


@command(artifacts, "get")
def get(
    session: CliSession,
    name: Annotated[str, typer.Argument(help="An artifact's name; with --job, the name of an output.")],
    job: Job = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write it; default: its base name, here.")
    ] = None,
) -> None:
    """Fetch an artifact, whole or not at all; of a job's output the checksum is checked, too."""
    with session.client() as client:
        wanted: list[str | FileRef] = [name] if job is None else [*_output_of(client, job, name)]
        if output is not None and len(wanted) > 1 and output.suffix and not output.is_dir():
            raise InvalidArgument(
                f"artifacts get: {name!r} is {len(wanted)} files; give a folder as --output"
            )
        saved = [str(client.fetch_artifact(each, _place(output, each, len(wanted)))) for each in wanted]
    session.output.answer({"saved": saved}, "\n".join(saved))


@command(artifacts, "rm")
def rm(
    session: CliSession,
    names: Annotated[list[str], typer.Argument(help="Names, as ls shows them; with --job, of its outputs.")],
    job: Job = None,
) -> None:
    """Remove artifacts of a bundled master; a job that was to get one fails, and says so."""
    with session.client() as client:
        wanted: list[str | FileRef] = []
        for name in names:
            wanted += [name] if job is None else _output_of(client, job, name)
        missing = [each for each in wanted if not client.delete_artifact(each)]
    if missing:
        raise NotFound(f"there is no artifact {', '.join(_named(each) for each in missing)}")
    session.output.answer({"removed": [_named(each) for each in wanted]})


def _named(each: str | FileRef) -> str:
    return each if isinstance(each, str) else each.name


def _place(output: Path | None, each: str | FileRef, count: int) -> Path | None:
    if output is None or (count == 1 and not output.is_dir()):
        return output
    return output / Path(each if isinstance(each, str) else each.path or each.name).name


def _left_by(client: TitanClient, job: str) -> list[tuple[str, FileRef]]:
    outputs: Mapping[str, FileRef | tuple[FileRef, ...]] = client.job_report(job).outputs
    return [
        (name, each)
        for name, ref in sorted(outputs.items())
        for each in (ref if isinstance(ref, tuple) else (ref,))
    ]


def _output_of(client: TitanClient, job: str, name: str) -> list[FileRef]:
    left = _left_by(client, job)
    found = [ref for output, ref in left if output == name]
    if not found:
        names = ", ".join(dict.fromkeys(output for output, _ in left)) or "none"
        raise NotFound(f"job {job!r} has left no output {name!r}; it has {names}")
    return found
