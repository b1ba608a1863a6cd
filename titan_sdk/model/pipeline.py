"""Pipelines: Titan's YAML files, read into jobs.

Every error is ``InvalidPipeline`` and begins with ``file:line``, so that an editor can jump there. This module reads
PyYAML's nodes instead of plain values, because only nodes have line numbers and show a key that is there twice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from titan_sdk.errors import InvalidArgument, InvalidDag, InvalidPipeline, MissingFile
from titan_sdk.model.dag import order_jobs
from titan_sdk.model.job import TitanJob
from titan_sdk.model.pipeline_yaml import Entry, Mapping, Source

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pipeline", "load_pipeline"]

_DEFAULT_NAME = "titan_agent"
"""The name that upstream's parser gives to a pipeline without one."""

_TOP_KEYS = ("name", "version", "project", "jobs")
_JOB_KEYS = (
    "id",
    "type",
    "file",
    "requirement",
    "priority",
    "delay",
    "affinity",
    "args",
    "port",
    "depends_on",
    "hitl_message",
    "max_wait_seconds",
)
_RUNTIME_KEYS = (
    *("params", "env", "python", "max_attempts", "timeout", "cancel_grace", "runtime"),
    *("project", "module", "cwd", "requirements", "inherit_packages"),
)
"""This SDK's own keys, for fields that the runtime carries. Services do not have them."""

_KEY_OF_FIELD = {"job_id": "id", "filename": "file", "parents": "depends_on", "job_type": "type"}
"""Upstream's keys for fields of TitanJob with other names. A file may use either name."""
_FIELD_OF_KEY = {key: name for name, key in _KEY_OF_FIELD.items()}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The DAG of a YAML file."""

    name: str
    project: bool
    """Whether the file's folder travels as ``<name>.zip``, for all jobs without their own project."""
    base_dir: Path
    """The folder of the file. The paths of the jobs' files are relative to it."""
    jobs: tuple[TitanJob, ...]
    """In the order of the file."""
    places: dict[tuple[str, str], str] = field(default_factory=dict, compare=False, repr=False)
    """File, line and key of a job's field, by job id and field name. Only ids and parents are listed."""


def load_pipeline(path: str | os.PathLike[str]) -> Pipeline:
    """Read a pipeline file and check everything that can be checked without a master.

    Raises:
        InvalidPipeline: the file cannot be read, or has an error; the sentence names file, line and key.
    """
    source = Source.read(Path(path))
    top = source.mapping(source.root, "the file", _TOP_KEYS)
    name = top.get("name", Entry.text, _DEFAULT_NAME)
    top.get("version", Entry.words, "")
    base_dir = Path(path).resolve().parent
    project = top.get("project", Entry.flag_or_text, True)
    folder = None if isinstance(project, bool) else _folder(base_dir, top.entry("project"))
    if project is True and (not name.strip() or "/" in name or ".zip" in name):
        top.entry("name").fail(
            f"{name!r} cannot name the project's zip file; use letters, digits, '_' and '-'"
        )
    listed = top.entry("jobs").items()
    if not listed:
        top.entry("jobs").fail("there are no jobs; list at least one")
    reader = _JobReader(name, project is True, base_dir, folder)
    jobs = reader.read_all(source, listed)
    return Pipeline(name, any(job.is_archive for job in jobs), base_dir, jobs, reader.places)


def _folder(base_dir: Path, entry: Entry) -> str:
    path = base_dir / entry.text()
    if not path.is_dir():
        entry.fail(f"{entry.text()!r} is neither true nor false, nor a folder in {str(base_dir)!r}")
    return str(path)


class _JobReader:
    """Turns the entries of ``jobs`` into TitanJobs.

    Args:
        folder: the project of jobs without their own.
    """

    def __init__(self, name: str, project: bool, base_dir: Path, folder: str | None) -> None:
        self._name = name
        self._project = project
        self._base_dir = base_dir
        self._folder = folder
        self.places: dict[tuple[str, str], str] = {}

    def read_all(self, source: Source, entries: list[Entry]) -> tuple[TitanJob, ...]:
        jobs: list[TitanJob] = []
        lines: dict[str, int] = {}
        for number, entry in enumerate(entries, 1):
            keys = _JOB_KEYS + _RUNTIME_KEYS
            job = self._read(source.mapping(entry.node, f"job {number}", keys, _KEY_OF_FIELD))
            if job.full_id in lines:
                entry.fail(f"the id {job.job_id!r} is already used in line {lines[job.full_id]}")
            lines[job.full_id] = entry.line
            jobs.append(job)
        try:
            order_jobs(self._name, jobs)
        except InvalidDag as exc:
            raise InvalidPipeline(f"{source.place(source.root)}: jobs: {exc}") from exc
        return tuple(jobs)

    def _read(self, job: Mapping) -> TitanJob:
        kind = job.get("type", Entry.text, "run").lower()
        if kind not in {"run", "service"}:
            job.entry("type").fail(f"{kind!r} is neither run nor service")
        port = job.entry("port").whole() if kind == "service" else job.get("port", Entry.whole, 0)
        given: dict[str, Any] = {
            "job_id": job.entry("id").text(),
            **self._what_runs(job),
            "job_type": "SERVICE" if kind == "service" else "TASK",
            "args": job.get("args", Entry.words_or_list, None),
            "parents": job.get("depends_on", Entry.texts, None),
            "port": port,
            "priority": job.get("priority", Entry.whole, 1),
            "delay": round(job.get("delay", Entry.seconds, 0.0) * 1000),
            "affinity": job.get("affinity", Entry.flag, False),
            "requirement": job.get("requirement", Entry.text, "GENERAL"),
            "hitl_message": job.get("hitl_message", Entry.text, None),
            "max_wait_seconds": job.get("max_wait_seconds", Entry.duration, 172800),
        }
        for key, read in _RUNTIME_READERS.items():
            if key in job:
                given[key] = job.get(key, read, None)
        if "requirements" in job:
            wanted = job.entry("requirements").words_or_list()
            # A text is a path relative to this file.
            given["requirements"] = str(self._base_dir / wanted) if isinstance(wanted, str) else wanted
        for key in ("id", "depends_on"):
            if key in job:
                place = f"{job.entry(key).place}: key {job.entry(key).key!r}"
                self.places[given["job_id"], _FIELD_OF_KEY[key]] = place
        try:
            return TitanJob(**given)
        except InvalidArgument as exc:
            _refuse(job, given["job_id"], exc)

    def _what_runs(self, job: Mapping) -> dict[str, Any]:
        folder = _folder(self._base_dir, job.entry("project")) if "project" in job else self._folder
        module = job.get("module", Entry.text, None)
        if folder is None and module is not None and self._project:
            folder = str(self._base_dir)
        if folder is None and module is None:
            return {"filename": self._filename(job.entry("file")), "is_archive": self._project}
        filename = job.entry("file").text() if "file" in job or module is None else ""
        return {"filename": filename.replace("\\", "/"), "module": module, "project": folder}

    def _filename(self, entry: Entry) -> str:
        relative = entry.text()
        path = self._base_dir / relative
        if not self._project:
            return str(path)
        relative = relative.replace("\\", "/")
        path = (self._base_dir / relative).resolve()
        if not path.is_relative_to(self._base_dir):
            entry.fail(
                f"{relative!r} is outside the project folder {str(self._base_dir)!r}, which is what travels"
            )
        if not path.is_file():
            entry.fail(f"there is no file {relative!r} in the project folder {str(self._base_dir)!r}")
        return f"{self._name}.zip/{path.relative_to(self._base_dir).as_posix()}"


_RUNTIME_READERS: dict[str, Callable[[Entry], Any]] = {
    "params": Entry.value,
    "env": Entry.words_by_name,
    "python": Entry.text,
    "max_attempts": Entry.whole,
    "timeout": Entry.duration,
    "cancel_grace": Entry.duration,
    "runtime": Entry.flag,
    "cwd": Entry.text,
    "inherit_packages": Entry.flag,
}


def _refuse(job: Mapping, job_id: str, exc: InvalidArgument) -> NoReturn:
    """Raise TitanJob's refusal with its line in the file. The refusal begins with the name of the field."""
    problem = str(exc).removeprefix(f"job {job_id!r}: ")
    field = problem.partition(" ")[0].rstrip(":,")
    if isinstance(exc, MissingFile):
        field = "requirements" if "requirements file" in problem else "filename"
    key = _KEY_OF_FIELD.get(field, field)
    place = job.entry(key).place if key in job else job.place
    raise InvalidPipeline(f"{place}: key {key!r}: {exc}") from exc
