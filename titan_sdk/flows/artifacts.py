"""Artifacts: named files in the master's registry."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from titan_sdk.archive import zip_folder
from titan_sdk.errors import InvalidArgument, MissingFile, NotFound, StoreUnavailable
from titan_sdk.flows.core import Flow, ask, blocking
from titan_sdk.flows.files import WITHDRAWN, fetch_file
from titan_sdk.flows.liveness import store_answers
from titan_sdk.flows.server import require, server_info
from titan_sdk.flows.store import store_get, store_put
from titan_sdk.flows.transfer import Progress, download, send_stream
from titan_sdk.model.artifact import ArtifactRef
from titan_sdk.model.files import FileRef
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls

__all__ = [
    "delete_artifact",
    "deploy_script",
    "fetch_artifact",
    "get_artifact",
    "publish_artifact",
    "upload_file",
    "upload_project_folder",
]

Location = str | os.PathLike[str]


def upload_file(session: Session, path: Location, progress: Progress | None = None) -> Flow[ArtifactRef]:
    """Store a file under its base name. It replaces an earlier one. Idempotent."""
    source = Path(path)
    name = _safe_name(source.name)
    file = yield from blocking(partial(_open, source))
    with file:
        return (yield from send_stream(session, name, file, os.fstat(file.fileno()).st_size, progress))


def upload_project_folder(
    session: Session, path: Location, project_name: str | None = None, progress: Progress | None = None
) -> Flow[ArtifactRef]:
    """Store a folder as ``<project_name>.zip``; jobs refer to ``<project_name>.zip/<entry>``. Idempotent."""
    folder = Path(path)
    name = _safe_name(f"{project_name or folder.resolve().name}.zip")
    if ".zip" in name.removesuffix(".zip"):
        raise InvalidArgument(
            f"project name {name!r} holds '.zip', at which Titan would cut a job's pointer into it"
        )
    with tempfile.TemporaryFile() as packed:
        yield from blocking(partial(zip_folder, folder, packed))
        size = packed.tell()
        packed.seek(0)
        return (yield from send_stream(session, name, packed, size, progress))


def fetch_artifact(
    session: Session,
    name: str | FileRef | Mapping[str, Any],
    save_path: Location | None = None,
    progress: Progress | None = None,
) -> Flow[Path]:
    """Write an artifact to ``save_path`` (default: its base name in the current folder), whole or not at all."""
    if not isinstance(name, str):
        ref = name if isinstance(name, FileRef) else FileRef.from_json(name)
        _check_registry_name(ref.name)
        return (yield from fetch_file(session, ref, save_path, progress))
    if isinstance(name, ArtifactRef):
        name = name.name
    _check_registry_name(name)
    target = Path(save_path) if save_path is not None else Path(Path(name).name)
    yield from download(session, name, target, progress)
    return target


def publish_artifact(session: Session, key: str, path: Location) -> Flow[ArtifactRef]:
    """Upload a file, or a folder as a zip, and store its name in TitanStore under ``key``, in that order."""
    if Path(path).is_dir():
        ref = yield from upload_project_folder(session, path)
    else:
        ref = yield from upload_file(session, path)
    yield from store_put(session, key, ref.name)
    return ref


def get_artifact(session: Session, key: str, save_path: Location | None = None) -> Flow[Path]:
    """Fetch the artifact that was published under ``key``."""
    name = yield from store_get(key)
    if not name or name == WITHDRAWN:
        if (
            name is None
            and not (yield from server_info(session)).is_bundled
            and not (yield from store_answers())
        ):
            raise StoreUnavailable(
                f"get_artifact: the master's store does not answer now, so nobody knows what is published under {key!r}; "
                "try again once `titan doctor` finds it well"
            )
        raise NotFound(f"get_artifact: nothing is published under {key!r}", detail=name or "")
    return (yield from fetch_artifact(session, name, save_path))


def delete_artifact(session: Session, name: str | FileRef | Mapping[str, Any]) -> Flow[bool]:
    """Remove an artifact, with all its parts; whether it was there.

    Raises:
        NotSupported: the master is a real one.
    """
    if isinstance(name, ArtifactRef):
        name = name.name
    ref = name if isinstance(name, FileRef) else None if isinstance(name, str) else FileRef.from_json(name)
    names = (str(name),) if ref is None else ref.part_names
    for each in names:
        _check_registry_name(each)
    yield from require(
        session,
        "asset_delete",
        "delete_artifact",
        "an upload under the same name replaces it, by an empty file, say",
    )
    found = False
    for each in names:
        found |= yield from ask(extended_calls.asset_delete(each))
    return found


def deploy_script(path: Location) -> Flow[ArtifactRef]:
    """Put a script into the master's own script folder under its base name. Idempotent."""
    source = Path(path)
    name = _safe_name(source.name)
    file = yield from blocking(partial(_open, source))
    with file:
        data = yield from blocking(file.read)
    yield from ask(calls.deploy_script(name, data))
    return ArtifactRef(name, len(data), hashlib.sha256(data).hexdigest(), "DEPLOY_SUCCESS")


def _open(path: Path) -> IO[bytes]:
    if not path.is_file():
        raise MissingFile(f"there is no file {str(path)!r} (current folder {os.getcwd()!r})")
    return path.open("rb")


def _safe_name(name: str) -> str:
    if not name or "|" in name or name in {".", ".."} or "/" in name or "\0" in name:
        raise InvalidArgument(f"{name!r} cannot be an artifact's name; rename the file without '|' and '/'")
    return name


def _check_registry_name(name: str) -> None:
    parts = name.split("/")
    if not name or name != name.strip() or ".." in parts or name.startswith("/") or "\0" in name:
        raise InvalidArgument(
            f"{name!r} is not the name of an artifact; give it as it was uploaded, without folders above it"
        )
