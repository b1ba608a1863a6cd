"""The script a task sends: found from a file name, or written from inline source for the moment of the submit."""

from __future__ import annotations

import os
import posixpath
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from titan_provider.compat import AirflowException

__all__ = ["find_script", "is_shell", "script_file"]


@contextmanager
def find_script(filename: str, dag_file: str | None) -> Iterator[str]:
    """Absolute path of the script: as given, else beside the DAG file, else in the current folder.

    Of a script in the zip of a packed DAG it is a copy, which exists while the block runs.

    :param filename: what the DAG's author wrote
    :param dag_file: the file that defines the DAG, where known
    :raises AirflowException: it is in none of these places; the sentence lists them
    """
    path = Path(filename).expanduser()
    folders = [Path.cwd()] if dag_file is None else [Path(dag_file).parent, Path.cwd()]
    places = [path] if path.is_absolute() else [folder / path for folder in folders]
    for place in places:
        if place.is_file():
            yield str(place.resolve())
            return
        content = _packed(place)
        if content is not None:
            with tempfile.TemporaryDirectory(prefix="titan-script-") as folder:
                copy = Path(folder, place.name)
                copy.write_bytes(content)
                yield str(copy)
            return
    looked = " nor ".join(str(place) for place in dict.fromkeys(places))
    raise AirflowException(
        f"the script {filename!r} was not found: there is no file {looked}. "
        "Give its path relative to the DAG file, or an absolute path that exists where the task runs"
    )


def _packed(place: Path) -> bytes | None:
    """The content of a file that lies in a zip, as Airflow loads DAGs from one; ``None`` if there is no such file."""
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
    """Whether a ``#!`` line names a shell; anything else is Python."""
    first = source.lstrip().partition("\n")[0]
    return first.startswith("#!") and any(
        word.endswith("sh") for word in first[2:].split() if word[:1] != "-"
    )


@contextmanager
def script_file(source: str, name: str) -> Iterator[str]:
    """A file with that source while the block runs, named so that the job's tracebacks make sense.

    :param source: Python, or a shell script when its first line is a ``#!`` line that names a shell
    :param name: what the file is called, without suffix
    :raises AirflowException: the source is the name of a script
    """
    if re.fullmatch(r"\S+\.(py|sh)", source.strip()):
        raise AirflowException(
            f"script {source.strip()!r} is the name of a file; give it as filename=, or, if it is a template, rename it "
            "to end in .j2"
        )
    safe = "".join(c if c.isalnum() or c in "._-@" else "_" for c in name)[:100]
    with tempfile.TemporaryDirectory(prefix="titan-script-") as folder:
        suffix = ".sh" if is_shell(source) else ".py"
        stem = safe.removesuffix(suffix)
        if suffix == ".py" and stem.isidentifier():
            # Never a module's name: the script's folder comes first on its path, and a task may be called "email".
            stem += "-script"
        path = os.path.join(folder, stem + suffix)
        # An inline script starts with the line break after the opening quotes; a #! must be first.
        Path(path).write_text(source.lstrip("\n"), encoding="utf-8")
        yield path
