"""Archives as they are when jobs that point into them are submitted.

A name such as ``proj.zip`` says nothing of the content, and whoever uploads again under it would replace the code of
jobs that were accepted before. So a submit reads what stands under the name, puts it under a name made of its own
checksum, which nobody overwrites with anything else, and the jobs point there.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from titan_sdk.archive import zip_folder
from titan_sdk.errors import CorruptData, InvalidJob, NotFound, RequestRefused
from titan_sdk.flows.assets import BEYOND, is_there
from titan_sdk.flows.core import Flow, ask, blocking, pause
from titan_sdk.flows.server import server_info
from titan_sdk.flows.transfer import receive, send_stream
from titan_sdk.model.artifact import ArtifactRef
from titan_sdk.model.job import TitanJob
from titan_sdk.session import Session
from titan_sdk.wire import extended_calls

__all__ = ["Archive", "find_archives", "pack_folder", "put_archives"]

_REREAD_PAUSES = (0.0, 0.1, 0.3, 0.5, 1.0)
"""A real master shows an archive that is being uploaded while it grows."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip, and the name by which jobs point at it."""

    name: str
    sha256: str
    size: int
    content: IO[bytes] | None = field(default=None, compare=False, repr=False)
    """Where the master may not have it under its own name yet; whoever made this closes it."""

    @property
    def asset(self) -> str:
        """Its name on the master; equal names mean equal bytes."""
        return f"titan-project-{self.sha256[:32]}.zip"


def pack_folder(folder: Path, name: str) -> Archive:
    """The folder's files as an archive of that name, in a file without a name."""
    packed = tempfile.TemporaryFile()  # noqa: SIM115 - the archive's owner closes it
    try:
        zip_folder(folder, packed)
        size = packed.tell()
        packed.seek(0)
        return Archive(name, hashlib.file_digest(packed, "sha256").hexdigest(), size, packed)
    except BaseException:
        packed.close()
        raise


def find_archives(session: Session, jobs: Sequence[TitanJob], found: dict[str, Archive]) -> Flow[None]:
    """Add the archive behind every name that the jobs point at; nothing is changed on the master.

    Args:
        found: by name; those that are in it are not asked for.

    Raises:
        InvalidJob: the master has no archive of that name. Where the job has parents it may be one of them that
            uploads it, so such a job takes what stands under the name when it starts.
    """
    for job in jobs:
        if not job.kind.is_archive or job.archive_name in found:
            continue
        try:
            found[job.archive_name] = yield from _look_up(session, job.archive_name)
        except NotFound as exc:
            if not job.parents:
                raise InvalidJob(
                    f"job {job.job_id!r}: the master has no uploaded file {job.archive_name!r}; upload it first "
                    "(upload_project_folder, titan upload), under the name that the job's filename begins with"
                ) from exc
        except CorruptData as exc:
            raise InvalidJob(f"job {job.job_id!r}: {exc}") from exc


def put_archives(session: Session, archives: Mapping[str, Archive]) -> Flow[None]:
    """Make every archive available under the name of its content."""
    for archive in archives.values():
        if archive.content is None or (yield from is_there(session, archive.asset, archive.sha256)):
            continue
        archive.content.seek(0)
        yield from send_stream(session, archive.asset, archive.content, archive.size, None)


def _look_up(session: Session, name: str) -> Flow[Archive]:
    info = yield from server_info(session)
    if "chunked_artifacts" in info.features:
        head = yield from ask(extended_calls.asset_read(name, BEYOND))
        archive = Archive(name, head.sha256, head.size)
        if (yield from is_there(session, archive.asset, archive.sha256)):
            return archive
    packed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the archive's owner closes it
    try:
        ref = yield from _receive_whole(session, name, packed)
        return Archive(name, ref.sha256, ref.bytes, packed)
    except BaseException:
        packed.close()
        raise


def _receive_whole(session: Session, name: str, file: IO[bytes]) -> Flow[ArtifactRef]:
    problem: Exception = CorruptData(f"what the master has as {name!r} is not a whole zip; upload it again")
    for seconds in _REREAD_PAUSES:
        yield from pause(seconds)
        file.seek(0)
        file.truncate()
        try:
            ref = yield from receive(session, name, file)
        except NotFound:
            raise
        except RequestRefused as exc:
            problem = exc  # such as: it was replaced while it was fetched
            continue
        if (yield from blocking(partial(zipfile.is_zipfile, file))):
            return ref
    raise problem
