"""The files of jobs: resolves inputs at the submit, and fetches the file of a reference."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from titan_sdk.errors import CorruptData, InvalidArgument, InvalidJob, NotFound
from titan_sdk.flows.assets import BEYOND
from titan_sdk.flows.core import Flow, ask, blocking
from titan_sdk.flows.report import JobRef, read_run_state, resolve_nonce
from titan_sdk.flows.server import server_info
from titan_sdk.flows.store import store_get
from titan_sdk.flows.transfer import Progress, receive
from titan_sdk.model.files import SCHEME, FileRef, Input, JobOutput
from titan_sdk.model.job import TitanJob
from titan_sdk.model.rules import full_id
from titan_sdk.session import Session
from titan_sdk.wire import calls, extended_calls
from titan_sdk.wire.fields import encode_key

__all__ = ["WITHDRAWN", "fetch_file", "find_inputs", "published"]

WITHDRAWN = "CLEARED"
"""Upstream's value of a key whose artifact was withdrawn."""

_Spec = dict[str, Any]


def find_inputs(
    session: Session, jobs: Sequence[TitanJob], run: str
) -> Flow[dict[str, tuple[Mapping[str, Any], ...]]]:
    """The inputs as the launchers get them, by full id. Nothing changes on the master.

    An input that exists is fixed by its checksum. The output of a parent is found when the job starts.

    Raises:
        InvalidJob: no file is published under a key, and there is no parent that could publish it; or an earlier job
            has no such output.
    """
    inside = {job.full_id: job for job in jobs}
    found: dict[str, tuple[Mapping[str, Any], ...]] = {}
    for job in jobs:
        given: list[_Spec] = []
        for path, value in (job.inputs or {}).items():
            given.append({"to": path} | (yield from _meaning(session, job, path, value, run, inside)))
        found[job.full_id] = tuple(given)
    return found


def _meaning(
    session: Session, job: TitanJob, path: str, value: Input, run: str, inside: Mapping[str, TitanJob]
) -> Flow[_Spec]:
    if isinstance(value, FileRef):
        return _told(value)
    if isinstance(value, tuple):
        return {"files": [_told(ref) for ref in value]}
    if isinstance(value, JobOutput):
        return (yield from _output(job, path, value, run, inside))
    key = value.removeprefix(SCHEME)
    try:
        ref = yield from published(session, key)
    except (InvalidArgument, NotFound) as exc:
        raise InvalidJob(
            f"job {job.job_id!r}: inputs: {path!r}: {value!r} stands for no file: {exc}"
        ) from exc
    if ref is not None:
        return _told(ref)
    if job.parents:
        return {"uri": encode_key(key)}
    raise InvalidJob(
        f"job {job.job_id!r}: inputs: {path!r}: nothing is published as {value!r}; publish it first: "
        f"client.publish_artifact({key!r}, PATH)"
    )


def _told(ref: FileRef) -> _Spec:
    fields = ref.to_json()
    # The input's own path says where the job gets the file. One of several files keeps its base name.
    return {"name": ref.name, "size": ref.size, "sha256": ref.sha256} | {
        name: fields[name] for name in ("parts", "path") if name in fields
    }


def _output(
    job: TitanJob, path: str, value: JobOutput, run: str, inside: Mapping[str, TitanJob]
) -> Flow[_Spec]:
    parent = full_id(value.job_id)
    where = f"job {job.job_id!r}: inputs: {path!r}:"
    later = {"job": parent, "output": value.name}
    if parent in inside:
        if not inside[parent].uses_runtime:
            raise InvalidJob(f"{where} job {value.job_id!r} has no runtime, so it leaves no outputs")
        return later | {"nonce": run}
    ref = yield from resolve_nonce(JobRef(value.job_id))
    if ref.nonce is None:
        raise InvalidJob(f"{where} job {value.job_id!r} has left no outputs that the master knows of")
    state = yield from read_run_state(ref)
    if state is None or not state.succeeded:
        return later | {"nonce": ref.nonce}
    left = state.outputs.get(value.name)
    if left is None:
        names = ", ".join(map(repr, state.outputs)) or "none"
        raise InvalidJob(f"{where} job {value.job_id!r} has left no output {value.name!r}; it has {names}")
    return {"files": [_told(each) for each in left]} if isinstance(left, tuple) else _told(left)


def published(session: Session, key: str) -> Flow[FileRef | None]:
    """The file that is published under a key now; ``None`` if there is none.

    Raises:
        NotFound: the artifact that it names is gone.
        InvalidArgument: it is no reference.
    """
    name = yield from store_get(key)
    if not name or name == WITHDRAWN:
        return None
    if name.startswith("{"):
        try:
            return FileRef.from_json(json.loads(name))
        except ValueError as exc:
            raise InvalidArgument(f"{name[:200]!r} is no reference of a file") from exc
    info = yield from server_info(session)
    if "chunked_artifacts" in info.features:
        chunk = yield from ask(extended_calls.asset_read(name, BEYOND))
        return FileRef(name, chunk.size, chunk.sha256)
    data = yield from ask(calls.fetch_asset(name))
    return FileRef(name, len(data), hashlib.sha256(data).hexdigest())


def fetch_file(
    session: Session, ref: FileRef, save_path: str | os.PathLike[str] | None, progress: Progress | None
) -> Flow[Path]:
    """Write the file to ``save_path``, by default under the job's name for it; whole or not at all.

    Raises:
        NotFound: the file was removed.
        CorruptData: the master has other content under its name.
    """
    target = Path(save_path) if save_path is not None else Path(Path(ref.path or ref.name).name)
    neighbour = target.with_name(f".{secrets.token_hex(8)}.part")  # the name may be as long as a name can be
    try:
        yield from blocking(partial(target.parent.mkdir, parents=True, exist_ok=True))
        with (yield from blocking(partial(_open_new, neighbour))) as file:
            yield from _write(session, ref, file, progress)
        found = yield from blocking(partial(_sha256, neighbour))
        if found != ref.sha256:
            raise CorruptData(
                f"fetch of {ref.name!r}: the master holds something else under that name than was meant "
                f"(checksum {found}, not {ref.sha256}); it was replaced"
            )
        yield from blocking(partial(neighbour.replace, target))
    finally:
        neighbour.unlink(missing_ok=True)
    return target


def _write(session: Session, ref: FileRef, file: IO[bytes], progress: Progress | None) -> Flow[None]:
    if not ref.parts:
        yield from receive(session, ref.name, file, progress)
        return
    done = 0
    for name in ref.part_names:
        try:
            data = yield from ask(calls.fetch_asset(name))
        except NotFound as exc:
            raise NotFound(f"fetch of {ref.name!r}: its part {name!r} is gone", detail=exc.detail) from exc
        yield from blocking(partial(file.write, data))
        done += len(data)
        if progress is not None:
            yield from blocking(partial(progress, done, ref.size))


def _open_new(path: Path) -> IO[bytes]:
    return path.open("xb")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
