"""Checks which imports of a DAG file have the same meaning on a worker."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

from titan_provider.work.source import exists, places_of

__all__ = ["check_import", "is_for_type_checking", "is_import_block", "star_of"]


def is_import_block(statement: ast.stmt) -> bool:
    """Whether a statement is an ``if`` or ``try`` in which there are only imports, and constants in place of imports."""
    if not isinstance(statement, ast.If | ast.Try):
        return False
    inner = [s for child in ast.walk(statement) for s in _bodies(child)]
    return any(isinstance(s, ast.Import | ast.ImportFrom) for s in inner) and all(map(_is_harmless, inner))


def _bodies(node: ast.AST) -> list[ast.stmt]:
    return [s for name in ("body", "orelse", "finalbody") for s in _listed(getattr(node, name, ()))]


def _listed(value: object) -> list[ast.stmt]:
    return [s for s in value if isinstance(s, ast.stmt)] if isinstance(value, list) else []


def _is_harmless(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass | ast.If | ast.Try)


def is_for_type_checking(statement: ast.stmt, top: ast.stmt) -> bool:
    """Whether a statement is below ``if TYPE_CHECKING:`` and so never runs.

    :param top: the top-level statement around it
    """
    if not isinstance(top, ast.If) or ast.unparse(top.test).rpartition(".")[2] != "TYPE_CHECKING":
        return False
    return any(statement is inner for branch in top.body for inner in ast.walk(branch))


def star_of(name: str, stars: tuple[str, ...]) -> str | None:
    """The loaded module whose ``import *`` binds the name, or None."""
    for star in stars:
        module = sys.modules.get(star)
        if module is not None:
            public = getattr(module, "__all__", None)
            if name in (public if public is not None else [n for n in vars(module) if n[0] != "_"]):
                return star
    return None


def check_import(
    statement: ast.Import | ast.ImportFrom, name: str, path: str, project: str | None = None
) -> None:
    """Refuse an import that fails on a worker.

    :param name: the name that the import binds
    :param path: the DAG file
    :param project: the folder that travels with the task; its root is on the worker's path
    :raises ValueError: the import fails there; the text continues a sentence that begins with the function's name
    """
    if isinstance(statement, ast.ImportFrom) and statement.level:
        raise ValueError(
            f"uses {name!r}, a relative import, which means nothing on a worker; import an installed module"
        )
    for module in _modules(statement, name):
        file = _file_beside(module, path)
        if file and not _is_in_project(module, path, project):
            raise ValueError(
                f"uses {name!r} of {file}, a file beside the DAG file, which workers do not have; "
                "let its folder travel as project=, move what is needed into the DAG file, or install it on the workers "
                "and import it inside the function"
            )


def _modules(statement: ast.Import | ast.ImportFrom, name: str) -> list[str]:
    if isinstance(statement, ast.ImportFrom):
        return [statement.module or ""]
    return [a.name for a in statement.names if (a.asname or a.name.partition(".")[0]) == name]


def _is_in_project(module: str, path: str, project: str | None) -> bool:
    """Whether the project's root has the module. A path with a template counts as true, because it is not known yet."""
    if project is None:
        return False
    root = module.partition(".")[0]
    return "{{" in project or any(
        exists(place / name) for place in places_of(project, path) for name in (root, f"{root}.py")
    )


def _file_beside(module: str, path: str) -> str | None:
    """The module's file, if it is in the DAG file's folder and not installed; otherwise None."""
    root = module.partition(".")[0]
    loaded = sys.modules.get(root)
    try:
        spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(root)
    except (ImportError, ValueError):
        return None
    origin = spec.origin if spec is not None and spec.has_location else None
    if not origin or "site-packages" in Path(origin).parts:
        return None
    folder = Path(path).resolve().parent
    return origin if folder in Path(origin).resolve().parents else None
