"""Archives and project folders, fixed at the submit of their jobs.

A name such as ``proj.zip`` does not fix the content: a second upload of that name would replace the code of accepted
jobs. Therefore a submit reads the archive, uploads it under a name made of its checksum, and lets the jobs point there.
No other content can get that name. A folder is packed here; equal files give equal bytes. An archive that does not fit
into a packet travels in parts, which are named in the same way.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO

from titan_sdk.archive import IGNORE_FILE, PROJECT_IGNORE_FILES, zip_folder
from titan_sdk.errors import CorruptData, InvalidArgument, InvalidJob, NotFound, RequestRefused
from titan_sdk.flows.assets import BEYOND, ensure_asset, is_there
from titan_sdk.flows.core import Flow, ask, blocking, pause
from titan_sdk.flows.server import server_info
from titan_sdk.flows.transfer import Progress, receive, send_stream
from titan_sdk.model.artifact import ArtifactRef
from titan_sdk.model.job import TitanJob
from titan_sdk.runtime.bundle import part_asset
from titan_sdk.session import Session
from titan_sdk.wire import extended_calls

__all__ = ["Archive", "find_archives", "pack_folder", "pack_projects", "put_archives"]

PART = 7 * 1024 * 1024
"""Bytes of one part of an archive. A master that takes Base64 in one packet of 10 MiB gets no larger file."""

_REREAD_PAUSES = (0.0, 0.1, 0.3, 0.5, 1.0)
"""How often an incomplete archive is read again: a real master shows an upload while it grows."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip, and the name by which jobs refer to it."""

    name: str
    sha256: str
    size: int
    content: IO[bytes] | None = field(default=None, compare=False, repr=False)
    """The bytes, unless the master has the archive under its own name already. The maker of this object closes the file."""
    parts: tuple[str, ...] = ()
    """SHA-256 of each piece of ``PART`` bytes, if the archive is in parts on the master."""

    @property
    def asset(self) -> str:
        """The archive's name on the master. Equal names mean equal bytes."""
        return f"titan-project-{self.sha256[:32]}.zip"


def pack_folder(folder: Path, name: str) -> Archive:
    """Pack the folder's files into an archive of that name, in a temporary file."""
    return _pack(folder, name, (IGNORE_FILE,))[0]


def pack_projects(session: Session, jobs: Sequence[TitanJob], found: dict[str, Archive]) -> Flow[None]:
    """Pack the project folders of the jobs, and add them to ``found``. Nothing is sent.

    Args:
        found: the archives by name. Those already in it are not packed again.

    Raises:
        InvalidJob: a folder cannot travel, or the job's own file is left out of it.
    """
    names: dict[str, frozenset[str]] = {}
    for job in jobs:
        key = job.project_key
        if key is None or (key in found and key not in names):
            continue
        folder = Path(key)
        if key not in names:
            try:
                pack = partial(_pack, folder, key, PROJECT_IGNORE_FILES, bounded=True)
                found[key], names[key] = yield from blocking(pack)
            except InvalidArgument as exc:
                raise InvalidJob(f"job {job.job_id!r}: project: {exc}") from exc
            info = yield from server_info(session)
            if found[key].size > PART and "chunked_artifacts" not in info.features:
                found[key] = replace(found[key], parts=(yield from blocking(partial(_parts, found[key]))))
        if job.entry is not None and job.entry not in names[key]:
            raise InvalidJob(f"job {job.job_id!r}: {_left_out(folder, job.entry)}")


def _left_out(folder: Path, entry: str) -> str:
    rules = next((name for name in PROJECT_IGNORE_FILES if (folder / name).exists()), None)
    why = (
        f"{rules} leaves it out. Take it in again with a line '!{entry}', or change the line that names it"
        if rules
        else "caches such as .venv and __pycache__ stay behind. Move it"
    )
    return f"the job runs {entry!r}, which is not in what travels of the project {str(folder)!r}: {why}"


def _pack(
    folder: Path, name: str, ignore_files: Sequence[str], *, bounded: bool = False
) -> tuple[Archive, frozenset[str]]:
    packed = tempfile.TemporaryFile()  # noqa: SIM115 - the archive's owner closes it
    try:
        names = zip_folder(folder, packed, ignore_files, bounded=bounded)
        size = packed.tell()
        packed.seek(0)
        return Archive(name, hashlib.file_digest(packed, "sha256").hexdigest(), size, packed), names
    except BaseException:
        packed.close()
        raise


def _parts(archive: Archive) -> tuple[str, ...]:
    assert archive.content is not None
    archive.content.seek(0)
    return tuple(
        hashlib.sha256(piece).hexdigest() for piece in iter(partial(archive.content.read, PART), b"")
    )


def find_archives(session: Session, jobs: Sequence[TitanJob], found: dict[str, Archive]) -> Flow[None]:
    """Find the archive of every name that the jobs refer to. Nothing changes on the master.

    Args:
        found: the archives by name. The found ones are added; those already in it are not asked for.

    Raises:
        InvalidJob: the master has no archive of that name. A job with parents is not refused, because a parent may
            upload the archive; it runs the archive that exists when it starts.
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


def put_archives(
    session: Session, archives: Mapping[str, Archive], progress: Progress | None = None
) -> Flow[None]:
    """Upload every archive under the name made of its checksum, if the master does not have it."""
    for archive in archives.values():
        if archive.content is None:
            continue
        if archive.parts:
            yield from _put_parts(session, archive, archive.content, progress)
        elif not (yield from is_there(session, archive.asset, archive.sha256)):
            archive.content.seek(0)
            yield from send_stream(session, archive.asset, archive.content, archive.size, progress)


def _put_parts(
    session: Session, archive: Archive, content: IO[bytes], progress: Progress | None
) -> Flow[None]:
    # The first and the last part stand for all: parts are sent in order, and a cleanup by age removes the first ones first.
    lacking = 0
    for digest in (archive.parts[0], archive.parts[-1]):
        end = part_asset(digest, b"")
        lacking += not (yield from is_there(session, end.name, end.sha256))
    if not lacking:
        return
    content.seek(0)
    done = 0
    for digest in archive.parts:
        piece = yield from blocking(partial(content.read, PART))
        part = part_asset(digest, piece)
        yield from ensure_asset(session, part.name, part.data, part.sha256)
        done += len(piece)
        if progress is not None:
            yield from blocking(partial(progress, done, archive.size))


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
    problem: Exception = CorruptData(f"the master's file {name!r} is not a whole zip; upload it again")
    for seconds in _REREAD_PAUSES:
        yield from pause(seconds)
        file.seek(0)
        file.truncate()
        try:
            ref = yield from receive(session, name, file)
        except NotFound:
            raise
        except RequestRefused as exc:
            problem = exc  # such as a replacement during the download
            continue
        if (yield from blocking(partial(zipfile.is_zipfile, file))):
            return ref
    raise problem
