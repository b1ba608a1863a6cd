"""Finds the project folder and the requirements file of a task's job, and unpacks them from the zip of a packed DAG."""

from __future__ import annotations

import os
import posixpath
import stat
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from titan_provider.compat import AirflowException
from titan_provider.work.source import exists, places_of

__all__ = ["find_project", "find_requirements"]


def find_project(project: str, dag_file: str | None, stack: ExitStack) -> str:
    """The project's folder: the path as given, or beside the DAG file, or in the current folder. A folder in the zip of a
    packed DAG is unpacked.

    :param project: the path as the DAG's author wrote it
    :param dag_file: the file that defines the DAG, if it is known
    :param stack: removes the unpacked files
    :raises AirflowException: the folder is in none of these places; the sentence lists them
    """
    places = places_of(project, dag_file)
    for place in places:
        if place.is_dir():
            return str(place.resolve())
        if (unpacked := _unpacked(place, stack)) is not None:
            return unpacked
    looked = " nor ".join(str(place) for place in dict.fromkeys(places))
    raise AirflowException(
        f"the project {project!r} was not found: there is no folder {looked}. "
        "Give its path relative to the DAG file, or an absolute path that exists where the task runs"
    )


def find_requirements(requirements: Any, dag_file: str | None, stack: ExitStack) -> Any:
    """The requirements: a list unchanged, or the path of the file as given, beside the DAG file, or in the current folder. A
    file in the zip of a packed DAG is unpacked with its folder, because it may name other files there.

    :param requirements: the requirements as the DAG's author wrote them
    :param dag_file: the file that defines the DAG, if it is known
    :param stack: removes the unpacked files
    :raises AirflowException: the file is in none of these places; the sentence lists them
    """
    if isinstance(requirements, os.PathLike):
        requirements = os.fspath(requirements)
    if not isinstance(requirements, str):
        return requirements
    places = places_of(requirements, dag_file)
    for place in places:
        if place.is_file():
            return str(place.resolve())
        if exists(place) and (folder := _unpacked(place.parent, stack)) is not None:
            return os.path.join(folder, place.name)
    if not requirements.endswith((".txt", ".toml", ".lock")):
        return requirements  # TitanJob says what it takes this for
    looked = " nor ".join(str(place) for place in dict.fromkeys(places))
    raise AirflowException(
        f"the requirements {requirements!r} were not found: there is no file {looked}. "
        "Give its path relative to the DAG file, or an absolute path that exists where the task runs"
    )


def _unpacked(place: Path, stack: ExitStack) -> str | None:
    """An unpacked copy of a folder in a zip, from which Airflow loads DAGs; ``None`` if there is no such folder."""
    packed = next((parent for parent in [place, *place.parents] if parent.is_file()), None)
    if packed is None or not zipfile.is_zipfile(packed):
        return None
    name = posixpath.normpath(place.relative_to(packed).as_posix())
    prefix = "" if name == "." else f"{name}/"
    with zipfile.ZipFile(packed) as archive:
        inside = [member for member in archive.infolist() if member.filename.startswith(prefix)]
        if not inside:
            return None
        root = stack.enter_context(tempfile.TemporaryDirectory(prefix="titan-project-"))
        for member in inside:
            path = archive.extract(member, root)
            if stat.S_ISLNK(member.external_attr >> 16):
                target = Path(path).read_text(encoding="utf-8")
                os.unlink(path)
                os.symlink(target, path)
            elif member.external_attr >> 16 & stat.S_IXUSR and not member.is_dir():
                os.chmod(path, 0o700)
    return os.path.join(root, name)
