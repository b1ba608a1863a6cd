"""The project's own source files, read once for every rule."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("titan_sdk", "titan_provider")


@dataclass(frozen=True)
class Source:
    """One Python file: where it is, how it is imported, what it says."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Path from the repository root, for messages."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def module(self) -> str:
        """Dotted name; a package's `__init__` is named like the package."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """Every Python file below the folders, in order."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(_read(path) for path in paths if "__pycache__" not in path.parts)


def _read(path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    return Source(path, text, ast.parse(text, filename=str(path)))


@dataclass(frozen=True)
class Import:
    """One imported module; `names` is empty for `import module`, and a relative one begins with its dots."""

    module: str
    names: tuple[str, ...]
    line: int
    at_import: bool
    """False inside a function or under `if TYPE_CHECKING:`."""


def imports(source: Source) -> Iterator[Import]:
    """Every import of the file, wherever it stands."""
    yield from _walk(source.tree, at_import=True)


def _walk(node: ast.AST, *, at_import: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, (), child.lineno, at_import) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            names = tuple(alias.name for alias in child.names)
            yield Import("." * child.level + (child.module or ""), names, child.lineno, at_import)
        else:
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(child)
            yield from _walk(child, at_import=at_import and not lazy)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


@cache
def committed_files() -> tuple[Path, ...]:
    """What git tracks, plus what it would track next; the whole point is what reaches other machines."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())
