"""The script of a job: a file that is found by its name, or inline source."""

from __future__ import annotations

import posixpath
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from titan_provider.compat import AirflowException

__all__ = [
    "Script",
    "choose_script",
    "exists",
    "find_script",
    "inline_script",
    "is_shell",
    "places_of",
]


@dataclass(frozen=True)
class Script:
    """The script of a job."""

    filename: str
    """The path of the file; for a source, the name to show."""
    source: str | bytes | None = None
    """The script itself; None: the file is read at the submit."""

    def content(self) -> bytes:
        """The bytes that would travel now. For a script in an archive, which is on the master, its name."""
        if self.source is not None:
            return self.source.encode() if isinstance(self.source, str) else self.source
        path = Path(self.filename)
        return path.read_bytes() if path.is_file() else self.filename.encode()


def choose_script(filename: str | None, source: str | None, name: str, dag: Any) -> Script:
    """The script of a task. Exactly one of ``filename`` and ``source`` must be given.

    :param name: name of an inline script, without suffix
    :param dag: the task's DAG, if it is known. The folder of its file is searched first
    """
    if source is not None:
        return inline_script(source, name)
    return find_script(str(filename), getattr(dag, "fileloc", None))


def find_script(filename: str, dag_file: str | None) -> Script:
    """The script's file: the path as given, or beside the DAG file, or in the current folder. A file in the zip of a packed
    DAG is read from there.

    :param filename: the path as the DAG's author wrote it
    :param dag_file: the file that defines the DAG, if it is known
    :raises AirflowException: the file is in none of these places; the sentence lists them
    """
    places = places_of(filename, dag_file)
    for place in places:
        if place.is_file():
            return Script(str(place.resolve()))
        content = _packed(place)
        if content is not None:
            return Script(place.name, content)
    looked = " nor ".join(str(place) for place in dict.fromkeys(places))
    raise AirflowException(
        f"the script {filename!r} was not found: there is no file {looked}. "
        "Give its path relative to the DAG file, or an absolute path that exists where the task runs"
    )


def places_of(name: str, dag_file: str | None) -> list[Path]:
    """The places in which a file or folder of a DAG is searched, in order."""
    path = Path(name).expanduser()
    folders = [Path.cwd()] if dag_file is None else [Path(dag_file).parent, Path.cwd()]
    return [path] if path.is_absolute() else [folder / path for folder in folders]


def exists(place: Path) -> bool:
    """Whether there is a file or folder, on a disk or in the zip of a packed DAG."""
    if place.exists():
        return True
    packed = next((parent for parent in place.parents if parent.is_file()), None)
    if packed is None or not zipfile.is_zipfile(packed):
        return False
    name = posixpath.normpath(place.relative_to(packed).as_posix())
    with zipfile.ZipFile(packed) as archive:
        return any(member == name or member.startswith(f"{name}/") for member in archive.namelist())


def _packed(place: Path) -> bytes | None:
    """The content of a file in a zip, from which Airflow loads DAGs; ``None`` if there is no such file."""
    for parent in place.parents:
        if parent.is_file():
            name = posixpath.normpath(place.relative_to(parent).as_posix())
            try:
                with zipfile.ZipFile(parent) as archive:
                    return archive.read(name)
            except (KeyError, zipfile.BadZipFile):
                return None
    return None


def is_shell(source: str) -> bool:
    """Whether a ``#!`` line names a shell. Any other source is Python."""
    first = source.lstrip().partition("\n")[0]
    return first.startswith("#!") and any(
        word.endswith("sh") for word in first[2:].split() if word[:1] != "-"
    )


def inline_script(source: str, name: str) -> Script:
    """A script of that source, named so that the job's tracebacks make sense.

    :param source: Python, or a shell script when its first line is a ``#!`` line that names a shell
    :param name: the script's name, without suffix
    :raises AirflowException: the source is the name of a script
    """
    if re.fullmatch(r"\S+\.(py|sh)", source.strip()):
        raise AirflowException(
            f"script {source.strip()!r} is the name of a file; give it as filename=, or, if it is a template, rename it "
            "to end in .j2"
        )
    safe = "".join(c if c.isalnum() or c in "._-@" else "_" for c in name)[:100]
    suffix = ".sh" if is_shell(source) else ".py"
    stem = safe.removesuffix(suffix)
    if suffix == ".py" and stem.isidentifier():
        # Never a module's name: the script's folder comes first on its path, and a task may be called "email".
        stem += "-script"
    # An inline script starts with the line break after the opening quotes; a #! must be first.
    return Script(stem + suffix, source.lstrip("\n"))
