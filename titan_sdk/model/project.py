"""Project folders: the file in the folder that a job runs."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

__all__ = ["ProjectProblem", "check_folder", "check_module", "entry_of_file", "entry_of_module"]


class ProjectProblem(Exception):
    """A job cannot run in its project. The sentence does not name the job's id."""


def check_folder(project: str) -> None:
    """Raise if the path is not a folder on this machine."""
    if not project:
        raise ProjectProblem("project is empty; give the path of the folder that travels")
    if os.path.isfile(project):
        raise ProjectProblem(
            f"project {project!r} is a file; give the folder that it lies in, and the file as filename"
        )
    if not os.path.isdir(project):
        raise ProjectProblem(
            f"project {project!r} is no folder of this machine (current folder {os.getcwd()!r}); give one that is"
        )


def entry_of_file(project: str, filename: str) -> str:
    """The path of the job's file in the project, with slashes."""
    inside = os.path.relpath(filename, project) if os.path.isabs(filename) else os.path.normpath(filename)
    if inside.split(os.sep)[0] == os.pardir or os.path.isabs(inside):
        raise ProjectProblem(
            f"filename {filename!r} lies outside the project {project!r}, which is what travels; name a file inside it"
        )
    entry = Path(inside).as_posix()
    path = Path(project, entry)
    if path.is_dir():
        advice = " Its __main__.py is run by module=" if (path / "__main__.py").is_file() else ""
        raise ProjectProblem(
            f"filename {filename!r} is a folder of the project; name the file to run.{advice}"
        )
    if not path.is_file():
        near = os.path.relpath(filename, project)
        found = not near.startswith(os.pardir) and Path(project, near).is_file()
        advice = f"{Path(near).as_posix()!r} is" if found else "filename is the path in it"
        raise ProjectProblem(f"filename {filename!r} is no file of the project {project!r}; {advice}")
    return entry


def check_module(module: object) -> None:
    """Raise if the text is not a module's dotted name."""
    if not isinstance(module, str) or not module:
        raise ProjectProblem(f"module {module!r} is not a text such as 'package.train'")
    if module.endswith(".py") or "/" in module:
        raise ProjectProblem(f"module {module!r} is a file; give it as filename, or as 'package.train'")
    if not all(part.isidentifier() for part in module.split(".")):
        raise ProjectProblem(f"module {module!r} is not a module's name such as 'package.train'")


def entry_of_module(project: str, module: str) -> str | None:
    """The path in the project of the file that ``python -m`` runs; ``None`` if the module is not in the project but on
    the worker.
    """
    *packages, last = module.split(".")
    place = PurePosixPath()
    for package in packages:
        place /= package
        if not Path(project, place).is_dir():
            break
    else:
        for entry in (place / last / "__main__.py", place / f"{last}.py"):
            if Path(project, entry).is_file():
                return str(entry)
    first = PurePosixPath(module.partition(".")[0])
    if not Path(project, first / "__init__.py").is_file() and not Path(project, f"{first}.py").is_file():
        return None
    asked = module.replace(".", "/")
    advice = (
        f"it is a package without a __main__.py; write {asked}/__main__.py, or name a module of it"
        if Path(project, asked).is_dir()
        else f"write {asked}.py, or correct the name"
    )
    raise ProjectProblem(f"module {module!r} cannot be run of the project {project!r}: {advice}")
