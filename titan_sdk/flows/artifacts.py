"""Artifacts: files in the master's registry, sent whole in one frame (protocol section 8.2)."""

from __future__ import annotations

import hashlib
import os
import secrets
from functools import partial
from pathlib import Path

from titan_sdk.archive import zip_folder
from titan_sdk.errors import InvalidArgument, MissingFile, NotFound, PayloadTooLarge
from titan_sdk.flows.core import Flow, ask, blocking
from titan_sdk.flows.store import store_get, store_put
from titan_sdk.model.artifact import ArtifactRef
from titan_sdk.session import Session
from titan_sdk.wire import calls
from titan_sdk.wire.frames import MAX_PAYLOAD

__all__ = [
    "deploy_script",
    "ensure_asset",
    "fetch_artifact",
    "get_artifact",
    "publish_artifact",
    "upload_file",
    "upload_project_folder",
]


def upload_file(path: str | os.PathLike[str]) -> Flow[ArtifactRef]:
    """Store a file under its base name, replacing what was there. Idempotent."""
    source = Path(path)
    data = yield from blocking(partial(_read, source))
    return (yield from _upload(_safe_name(source.name), data))


def upload_project_folder(path: str | os.PathLike[str], project_name: str | None = None) -> Flow[ArtifactRef]:
    """Store a folder as ``<project_name>.zip``; jobs then point at ``<project_name>.zip/<entry>``. Idempotent."""
    folder = Path(path)
    name = _safe_name(f"{project_name or folder.resolve().name}.zip")
    if ".zip" in name.removesuffix(".zip"):
        raise InvalidArgument(
            f"project name {name!r} holds '.zip', at which Titan would cut a job's pointer into it"
        )
    data = yield from blocking(partial(zip_folder, folder))
    return (yield from _upload(name, data))


def fetch_artifact(name: str, save_path: str | os.PathLike[str] | None = None) -> Flow[Path]:
    """Write an artifact to ``save_path`` (default: its base name in the current folder), whole or not at all."""
    _check_registry_name(name)
    target = Path(save_path) if save_path is not None else Path(Path(name).name)
    data = yield from ask(calls.fetch_asset(name))
    yield from blocking(partial(_write, target, data))
    return target


def publish_artifact(key: str, path: str | os.PathLike[str]) -> Flow[ArtifactRef]:
    """Upload a file and store its name in TitanStore under ``key``, in that order."""
    ref = yield from upload_file(path)
    yield from store_put(key, ref.name)
    return ref


def get_artifact(key: str, save_path: str | os.PathLike[str] | None = None) -> Flow[Path]:
    """Fetch what was published under ``key``."""
    name = yield from store_get(key)
    if not name or name == "CLEARED":  # upstream's word for "withdrawn"
        raise NotFound(f"get_artifact: nothing is published under {key!r}", detail=name or "")
    return (yield from fetch_artifact(name, save_path))


def deploy_script(path: str | os.PathLike[str]) -> Flow[ArtifactRef]:
    """Put a script into the master's own script folder under its base name. Idempotent."""
    source = Path(path)
    data = yield from blocking(partial(_read, source))
    name = _safe_name(source.name)
    yield from ask(calls.deploy_script(name, data))
    return _ref(name, data)


def ensure_asset(session: Session, name: str, data: bytes) -> Flow[None]:
    """Make a content-addressed asset available; sent once per client and name."""
    if name not in session.uploaded:
        yield from ask(calls.upload_asset(name, data))
        session.uploaded.add(name)


def _upload(name: str, data: bytes) -> Flow[ArtifactRef]:
    limit = (MAX_PAYLOAD - len(name.encode()) - 1) // 4 * 3
    if len(data) > limit:
        raise PayloadTooLarge(
            f"upload of {name!r} ({len(data):,} bytes)",
            len(name.encode()) + 1 + (len(data) + 2) // 3 * 4,
            MAX_PAYLOAD,
            f"a file of up to {limit:,} bytes fits; make it smaller or put it where the workers can read it",
        )
    yield from ask(calls.upload_asset(name, data))
    return _ref(name, data)


def _ref(name: str, data: bytes) -> ArtifactRef:
    return ArtifactRef(name, len(data), hashlib.sha256(data).hexdigest())


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise MissingFile(f"there is no file {str(path)!r} (current folder {os.getcwd()!r})")
    return path.read_bytes()


def _write(target: Path, data: bytes) -> None:
    """Through a neighbour file and a rename, so that nobody ever sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    neighbour = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with neighbour.open("xb") as file:
            file.write(data)
        neighbour.replace(target)
    finally:
        neighbour.unlink(missing_ok=True)


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
