"""A job's files: its inputs and its outputs."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from posixpath import basename, normpath
from typing import Any, TypeAlias

from titan_sdk.errors import InvalidArgument
from titan_sdk.model.artifact import ArtifactRef

__all__ = [
    "FileRef",
    "Input",
    "JobOutput",
    "Outputs",
    "check_outputs",
    "parents_of",
    "read_inputs",
    "renamed",
]

MARK = "titan_file"
SCHEME = "titan://"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileRef:
    """A reference to a file, or to a folder as a zip, in the master's registry. Its checksum guarantees that a reader gets
    exactly these bytes, or an error. ``fetch_artifact`` and another job's ``inputs`` take it.
    """

    name: str
    """The artifact's name."""
    size: int
    """Bytes."""
    sha256: str
    path: str = ""
    """Its path in the job, relative to the job's folder."""
    is_folder: bool = False
    """Whether it is the zip of a folder."""
    parts: tuple[str, ...] = ()
    """SHA-256 of each part (``<name>.1of3`` and so on), if the file is too large for one packet of the master."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """The artifacts that make up the file, in order."""
        count = len(self.parts)
        return tuple(f"{self.name}.{index}of{count}" for index in range(1, count + 1)) or (self.name,)

    def to_json(self) -> dict[str, Any]:
        """The reference as JSON, for an XCom or a file."""
        fields: dict[str, Any] = {MARK: 1, "name": self.name, "size": self.size, "sha256": self.sha256}
        more = {"path": self.path, "folder": self.is_folder, "parts": list(self.parts)}
        return fields | {name: value for name, value in more.items() if value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FileRef:
        """The reference from its JSON form, or from a runtime's record.

        Raises:
            InvalidArgument: the value is not a reference.
        """
        try:
            ref = cls(
                value["name"],
                value["size"],
                value["sha256"],
                value.get("path", ""),
                bool(value.get("folder", False)),
                tuple(value.get("parts", ())),
            )
        except (KeyError, TypeError) as exc:
            raise InvalidArgument(f"{_shown(value)} is no reference of a file: {exc!r}") from exc
        texts = (ref.name, ref.path, ref.sha256, *ref.parts)
        whole = type(ref.size) is int and ref.size >= 0 and all(isinstance(text, str) for text in texts)
        if not whole or not ref.name or not all(map(_SHA256.fullmatch, (ref.sha256, *ref.parts))):
            raise InvalidArgument(f"{_shown(value)} is no reference of a file")
        return ref


@dataclass(frozen=True, slots=True)
class JobOutput:
    """A future output of a job, for the ``inputs`` of a later job."""

    job_id: str
    name: str


Input: TypeAlias = FileRef | JobOutput | str | tuple[FileRef, ...]
"""A text is ``titan://KEY``, with a key of ``publish_artifact``."""


class Outputs(Mapping[str, JobOutput]):
    """``job.output["model"]``: the future outputs of a job. Names that are not declared are allowed, because
    ``titan_job.publish`` may publish them.
    """

    def __init__(self, job_id: str, declared: Mapping[str, str]) -> None:
        self._job_id, self._declared = job_id, declared

    def __getitem__(self, name: str) -> JobOutput:
        return JobOutput(self._job_id, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)


def check_outputs(given: object) -> dict[str, str]:
    """The outputs in normal form: names to paths or patterns.

    Raises:
        InvalidArgument: a name or a path is not valid. The text continues the caller's sentence.
    """
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{_shown(given)} is not a mapping of names to paths")
    found = {}
    for name, path in given.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"the name {name!r} is not 1 to 40 letters, digits, dots, dashes and underscores"
            )
        found[name] = _path(path, f"{name!r}: ", absolute=True)
    return found


def read_inputs(given: object) -> dict[str, Input]:
    """The inputs in normal form: paths to files.

    Raises:
        InvalidArgument: see ``check_outputs``.
    """
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{_shown(given)} is not a mapping of paths to files")
    found: dict[str, Input] = {}
    for path, value in given.items():
        checked = _path(path, "", absolute=False)
        if not checked.endswith("/") and checked.split("/")[-1] == ".":
            raise InvalidArgument(f"{checked!r} is a folder; end it with '/', or name a file")
        for other in found:
            if normpath(other) == normpath(checked):
                raise InvalidArgument(f"{other!r} and {checked!r} are the same place; give it once")
        found[checked] = _input(checked, value)
    return found


def _path(path: object, where: str, *, absolute: bool) -> str:
    try:
        text = os.fspath(path)  # type: ignore[call-overload]
    except TypeError:
        text = None
    if not isinstance(text, str) or not text.strip("/") or "\0" in text:
        raise InvalidArgument(f"{where}{_shown(path)} is not the path of a file")
    if ".." in text.split("/") or (text.startswith("/") and not absolute):
        raise InvalidArgument(
            f"{where}{text!r} leads out of the folder in which the job runs; give a path relative to that"
        )
    return str(text)


def _input(path: str, value: object) -> Input:
    if isinstance(value, ArtifactRef):
        return FileRef(value.name, value.bytes, value.sha256)
    if isinstance(value, FileRef | JobOutput):
        return value
    if isinstance(value, Mapping):
        try:
            return FileRef.from_json(value)
        except InvalidArgument as exc:
            raise InvalidArgument(f"{path!r}: {exc}") from exc
    if isinstance(value, str):
        if value.startswith(SCHEME) and len(value) > len(SCHEME):
            return value
        raise InvalidArgument(
            f"{path!r}: {_shown(value)} does not begin with {SCHEME}; publish the file first (publish_artifact), or give "
            "the reference that upload_file returns"
        )
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        if not path.endswith("/"):
            raise InvalidArgument(f"{path!r} stands for several files; give a folder, which ends with '/'")
        several = tuple(_input(path, each) for each in value)
        if all(isinstance(each, FileRef) for each in several):
            _check_names(path, several)  # type: ignore[arg-type]
            return several  # type: ignore[return-value]
    raise InvalidArgument(f"{path!r}: {_shown(value)} is no reference of a file")


def _check_names(path: str, several: Sequence[FileRef]) -> None:
    names = Counter(name for name, _ in {(basename(ref.path or ref.name), ref.sha256) for ref in several})
    for name, count in names.items():
        if count > 1:
            raise InvalidArgument(
                f"{path!r}: several of its files are called {name!r}, and each keeps its base name; publish their folder "
                "instead"
            )


def parents_of(inputs: Mapping[str, Input]) -> tuple[str, ...]:
    """The ids of the jobs whose outputs are among the inputs."""
    return tuple(dict.fromkeys(value.job_id for value in inputs.values() if isinstance(value, JobOutput)))


def renamed(inputs: Mapping[str, Input], new_id: Any) -> dict[str, Input]:
    """The same inputs after a change of the jobs' ids. ``new_id`` maps an old id to the new one."""
    return {
        path: replace(value, job_id=new_id(value.job_id)) if isinstance(value, JobOutput) else value
        for path, value in inputs.items()
    }


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
