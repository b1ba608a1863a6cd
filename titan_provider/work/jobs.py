"""Reads jobs from an operator's parameters, such as ``jobs`` of a TitanDagOperator, up to their submission."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any

from titan_provider.values import as_id, to_json
from titan_provider.work.project import find_project, find_requirements
from titan_provider.work.source import Script, find_script, inline_script
from titan_sdk import TitanJob
from titan_sdk.archive import folder_digest

__all__ = ["NamedJob", "read_jobs"]

# A job's outcome depends on these fields and its script, not on the place and time of its run.
_MARKED = ("args", "params", "env", "python", "job_type", "is_archive")
_FIELDS = {field.name for field in dataclasses.fields(TitanJob)}
_WHOLE = {"priority", "max_attempts"}
_INLINE = ("script", "source", "script_content")
_REFUSED = {
    "owner_lease": "the task does not renew it; give the job a timeout",
    "hitl_message": "a task does not wait for people; submit such a DAG with the SDK and follow it with TitanDagSensor",
    "port": "services do not end; use TitanServiceOperator",
}


@dataclass(frozen=True)
class NamedJob:
    """One job with its user's name for it."""

    name: str
    parents: tuple[str, ...]
    """Names of other jobs of the same task, or ids of any jobs."""
    script: Script
    fields: Mapping[str, Any]
    """The other parameters of its TitanJob."""
    mark: str
    """A digest of the fields and files on which its outcome depends."""
    clears_checkpoint: bool = False
    """Whether it starts without a checkpoint after a clear of its task."""

    @property
    def requirement(self) -> str:
        return str(self.fields.get("requirement", "GENERAL"))

    @property
    def has_nonce(self) -> bool:
        """Whether the job has a nonce, which needs the runtime."""
        return bool(self.fields.get("runtime", True)) and self.fields.get("job_type") != "SERVICE"

    def build(self, ids: Mapping[str, str]) -> TitanJob:
        """The job to submit.

        :param ids: ids by name. A parent without a name here is the id of another task's job
        """
        parents = [ids.get(parent, parent) for parent in self.parents]
        return TitanJob(
            ids.get(self.name, self.name),
            self.script.filename,
            source=self.script.source,
            parents=parents,
            **self.fields,
        )


def read_jobs(
    task: str, given: Sequence[Any], dag_file: str | None, stack: ExitStack | None = None
) -> list[NamedJob]:
    """The jobs in the given order.

    :param task: the name of the task in an error
    :param given: dicts or TitanJobs
    :param dag_file: scripts and projects are searched beside this file
    :param stack: closed after the submit; it removes the unpacked files of a packed DAG
    :raises ValueError: a dict is not valid; TitanJob refuses other errors when it is built
    """
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"{task}: jobs must be a list of at least one dict or TitanJob, not {given!r:.80}")
    reader = _Reader(task, dag_file, stack or ExitStack())
    jobs = [reader.read(index, value) for index, value in enumerate(given)]
    names = [job.name for job in jobs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{task}: more than one job is called {sorted(twice)[0]!r}; their names must differ")
    return jobs


class _Reader:
    """Reads the jobs of one task, each project's folder once."""

    def __init__(self, task: str, dag_file: str | None, stack: ExitStack) -> None:
        self._task, self._dag_file, self._stack = task, dag_file, stack
        self._projects: dict[str, str] = {}
        self._digests: dict[str, str] = {}

    def read(self, index: int, value: Any) -> NamedJob:
        where = f"{self._task}: jobs[{index}]"
        fields = (
            _fields_of(value)
            if isinstance(value, TitanJob)
            else dict(value)
            if isinstance(value, Mapping)
            else None
        )
        if fields is None:
            raise ValueError(f"{where} is a {type(value).__name__}; give a dict or a TitanJob")
        name = as_id(fields.pop("name", None) or fields.pop("job_id", None))
        if not isinstance(name, str) or not name:
            raise ValueError(f"{where} has no name; give it one with 'job_id'")
        where += f" ({name})"
        script = self._script(where, fields, name)
        parents = fields.pop("parents", None) or ()
        if isinstance(parents, str):
            raise ValueError(f"{where}: parents {parents!r} is a single text; give a list of names")
        for unknown in sorted(set(fields) - _FIELDS):
            raise ValueError(
                f"{where}: {unknown!r} is no parameter of a job; there are {', '.join(sorted(_FIELDS))}"
            )
        for refused, advice in _REFUSED.items():
            if fields.get(refused):
                raise ValueError(f"{where}: {refused!r} cannot be used here: {advice}")
        if "params" in fields:
            fields["params"] = to_json(fields["params"], f"{where}: params")
        for whole in _WHOLE & fields.keys():
            fields[whole] = _whole(fields[whole], f"{where}: {whole}")
        return NamedJob(name, tuple(map(as_id, parents)), script, fields, self._mark(script, fields))

    def _script(self, where: str, fields: dict[str, Any], name: str) -> Script:
        """The job's script, removed from its fields. With a ``source``, ``filename`` is its name."""
        filename = fields.pop("filename", None) or None
        given = {key: value for key in _INLINE if (value := fields.pop(key, None)) is not None}
        module = fields.get("module")
        ways = len(given) + (filename is not None and (not given or "script" in given)) + (module is not None)
        if ways != 1:
            raise ValueError(f"{where}: give one of 'filename', 'script' and 'module', and no other of them")
        if project := fields.get("project"):
            fields["project"] = self._project(os.fspath(project))
        if requirements := fields.get("requirements"):
            fields["requirements"] = find_requirements(requirements, self._dag_file, self._stack)
        if module is not None:
            return Script("")
        if "script" in given:
            return inline_script(given["script"], name)
        if given:
            (source,) = given.values()
            text = source if isinstance(source, str) else source.decode("latin-1")
            return Script(filename or inline_script(text, name).filename, source)
        if project or fields.get("is_archive"):
            return Script(str(filename))
        return find_script(str(filename), self._dag_file)

    def _project(self, project: str) -> str:
        if project not in self._projects:
            self._projects[project] = find_project(project, self._dag_file, self._stack)
        return self._projects[project]

    def _mark(self, script: Script, fields: Mapping[str, Any]) -> str:
        relevant = [PurePath(script.filename).name, *(fields.get(name) for name in _MARKED)]
        content = script.content()
        if module := fields.get("module"):
            relevant.append(module)
        if requirements := fields.get("requirements"):
            is_file = isinstance(requirements, str) and Path(requirements).is_file()
            listed = Path(requirements).read_bytes().hex() if is_file else requirements
            relevant += [listed, bool(fields.get("inherit_packages"))]
        # The text of a reference, in any form, tells one content from another.
        relevant += [f"{name}: {fields[name]!r}" for name in ("inputs", "outputs") if fields.get(name)]
        if folder := fields.get("project"):
            if folder not in self._digests:
                self._digests[folder] = folder_digest(Path(folder))
            # What is at hand under the entry's name is another file.
            content = b"" if script.source is None else content
            relevant += [self._digests[folder], script.filename, fields.get("cwd")]
        return hashlib.sha256(
            content + json.dumps(relevant, sort_keys=True, default=_jsonable).encode()
        ).hexdigest()[:16]


def _whole(value: Any, where: str) -> Any:
    """A text of digits as a number, because a template renders to text."""
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{where} {value!r} is not a whole number") from None


def _fields_of(job: TitanJob) -> dict[str, Any]:
    """The fields that the job's author has set."""
    defaults = {field.name: field.default for field in dataclasses.fields(TitanJob)}
    return {
        name: value
        for name in _FIELDS
        if (value := getattr(job, name)) != defaults[name]
        and not (value in ((), {}) and defaults[name] is None)
    }


def _jsonable(value: Any) -> Any:
    return str(value) if isinstance(value, os.PathLike | Decimal) else list(value)
