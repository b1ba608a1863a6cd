"""Builds the lines of the jobs, and the list of assets that the master must have before the submit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from titan_sdk.errors import InvalidJob, PayloadTooLarge
from titan_sdk.flows.archives import Archive
from titan_sdk.flows.core import Flow, blocking
from titan_sdk.flows.requirements import requirements_of
from titan_sdk.model.job import JobKind, TitanJob
from titan_sdk.model.rules import full_id
from titan_sdk.model.server import ServerInfo
from titan_sdk.runtime import keys
from titan_sdk.runtime.bundle import Asset, runtime_bundle
from titan_sdk.runtime.spec import Packages, Project, RunSpec, Script
from titan_sdk.runtime.stub import build_stub
from titan_sdk.session import Session
from titan_sdk.wire.fields import encode_base64
from titan_sdk.wire.frames import MAX_PAYLOAD
from titan_sdk.wire.jobs import JobLine

__all__ = ["Staged", "check_for_master", "plain_line", "stage"]


@dataclass(frozen=True, slots=True)
class Staged:
    """The data that a submit sends, by full id."""

    lines: dict[str, JobLine]
    assets: tuple[Asset, ...]
    inside_parents: dict[str, tuple[str, ...]]
    scripts: dict[str, str]
    """The SHA-256 of each script and requirements file that was read."""


def check_for_master(info: ServerInfo, jobs: Sequence[TitanJob]) -> None:
    """Refuse jobs if this master would silently ignore a part of them (section 5.4).

    Raises:
        InvalidJob: the master is a real one, and an archive job without the runtime has arguments, or a service is not
            a Python script.
    """
    if "archive_args" in info.features:
        return
    for job in jobs:
        if job.kind is JobKind.SERVICE and job.runtime and not job.filename.endswith(".py"):
            raise InvalidJob(
                f"job {job.job_id!r}: filename {job.filename!r} does not end in .py; a real Titan starts no other "
                "file as a service. Start it from a Python script"
            )
        if job.kind is JobKind.ARCHIVE and job.args and not job.uses_runtime:
            raise InvalidJob(
                f"job {job.job_id!r}: args {job.args!r} cannot reach an archive on this master: a real Titan drops them; "
                "leave the runtime on (runtime=True), which carries them"
            )


def stage(
    session: Session,
    jobs: Sequence[TitanJob],
    run: str,
    parents: dict[str, tuple[str, ...]],
    archives: Mapping[str, Archive],
    inputs: Mapping[str, tuple[Mapping[str, Any], ...]],
) -> Flow[Staged]:
    """Read the scripts, each file once, and build the lines.

    Args:
        parents: the parents to send, by full id.
        archives: the jobs' archives, by the names that the jobs use, and their projects.
        inputs: the resolved inputs, by full id.
    """
    by_id = {job.full_id: job for job in jobs}
    inside = {job_id: tuple(p for p in ps if p in by_id) for job_id, ps in parents.items()}
    lines: dict[str, JobLine] = {}
    assets: dict[str, Asset] = {}
    scripts: dict[str, bytes] = {}
    for index, job in enumerate(jobs):
        if job.reads_file and job.filename not in scripts:
            scripts[job.filename] = yield from blocking(job.read_script)
        content = scripts[job.filename] if job.reads_file else job.read_script()
        archive = archives.get(job.archive_name) if job.kind.is_archive else None
        if not job.uses_runtime:
            lines[job.full_id] = plain_line(job, content, parents[job.full_id], run, archive)
            continue
        bundle = runtime_bundle()
        source, blob = _script(job, content, archive)
        packages, listing = None, None
        if isinstance(job.requirements, str) or job.entry is not None:
            wanted = yield from blocking(partial(requirements_of, job, content, scripts))
        else:
            wanted = requirements_of(job, content, scripts)
        if wanted is not None:
            packages, listing = Packages.of(wanted, job.inherit_packages)
        for asset in (bundle, blob, listing):
            if asset:
                assets[asset.name] = asset
        watched = {p: run for p in inside[job.full_id] if by_id[p].uses_runtime}
        project = None if job.project_key is None else archives[job.project_key]
        spec = replace(
            _spec(session, job, run, source, packages, watched, project),
            inputs=inputs.get(job.full_id, ()),
            outputs=job.outputs or {},
            checkpoint=None if job.checkpoint_key is None else keys.checkpoint_key(job.checkpoint_key),
            keep_checkpoint=job.keep_checkpoint,
        )
        stub = build_stub(spec, bundle)
        fields = (f"titan-{run}-{index}.sh", "", encode_base64(stub), job.requirement)
        lines[job.full_id] = _line(job, JobKind.SCRIPT, fields, parents[job.full_id])
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in scripts.items()}
    return Staged(lines, tuple(assets.values()), inside, digests)


def _script(job: TitanJob, content: bytes, archive: Archive | None) -> tuple[Script, Asset | None]:
    if job.kind.is_archive:
        return Script.in_archive(job.filename, *((archive.asset, archive.sha256) if archive else ())), None
    if job.module is not None:
        return Script.module(job.module), None
    if job.entry is not None:
        return Script.in_project(job.entry), None
    source, blob = Script.of(Path(job.filename).name, content)
    _check_size(job, blob)
    return source, blob


def plain_line(
    job: TitanJob, content: bytes, parents: tuple[str, ...], run: str, archive: Archive | None = None
) -> JobLine:
    """The line that upstream's SDK would send, except for two names.

    A service's script gets a unique name: staged files share one folder per worker, so two services called ``app.py``
    would overwrite each other (hazard 7). An archive is named by its content, because the master reads it only when the
    job starts.
    """
    if archive is not None:
        job = replace(job, filename=archive.asset + job.filename.removeprefix(archive.name))
    name = os.path.basename(job.filename)
    staged = f"titan-{run}-{name}" if job.kind is JobKind.SERVICE and job.runtime else name
    fields = job.plain_fields(content, staged)
    return _line(job, job.kind, fields, parents)


def _line(job: TitanJob, kind: JobKind, fields: tuple[str, ...], parents: tuple[str, ...]) -> JobLine:
    """The line with the ids as the user wrote them. The master adds ``DAG-`` (section 4.1, rule 5)."""
    named = {full_id(p): p for p in job.parents} if job.parents else {}
    short = tuple([named[p] for p in parents]) if parents else ()
    return JobLine(job.job_id, kind.value, fields, job.priority, job.delay_ms, short, job.affinity)


def _spec(
    session: Session,
    job: TitanJob,
    run: str,
    source: Script,
    packages: Packages | None,
    watched: dict[str, str],
    project: Archive | None,
) -> RunSpec:
    host, port = session.config.address_for_workers
    return RunSpec(
        job_id=job.full_id,
        nonce=run,
        host=host,
        port=port,
        script=source,
        argv=job.argv,
        env=job.variables,
        params=params_json(job),
        python=job.python,
        max_attempts=job.max_attempts or 1,
        timeout=job.timeout_seconds,
        cancel_grace=job.grace_seconds,
        owner_lease=job.owner_lease_seconds,
        packages=packages,
        parents=watched,
        project=Project(project.asset, project.sha256, project.size, project.parts) if project else None,
        cwd=job.cwd,
    )


def params_json(job: TitanJob) -> object:
    """The JSON form of the job's params."""
    if job.params is None and job.serializer == "json":
        return None
    from titan_sdk.values import dump  # only for jobs with params

    return dump(job.params, "params", serializer=job.serializer)


def _check_size(job: TitanJob, blob: Asset | None) -> None:
    size = len(blob.name) + 1 + (len(blob.data) + 2) // 3 * 4 if blob else 0
    if size > MAX_PAYLOAD:
        raise PayloadTooLarge(
            f"job {job.job_id!r}: its script {job.filename!r}",
            size,
            MAX_PAYLOAD,
            "put the data in it into files of their own (upload_file), which the job fetches",
        )
