"""``titan upload``: files and folders for the artifact registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from titan_sdk.cli.context import CliSession, command
from titan_sdk.cli.uploads import uploading
from titan_sdk.errors import InvalidArgument

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "upload")(upload)


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
