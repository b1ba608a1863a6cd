"""Caps on size: a file or function that outgrows them is split by subject."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.rules.sources import PACKAGES, Source, sources

FILE_CAP = 700
FUNCTION_CAP = 80
FOLDERS = (*PACKAGES, "tests", "dags_examples", "benchmarks")
ALL = sources(*FOLDERS)


def functions(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the end."""
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and len(body) > 1:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_files_and_functions_stay_small() -> None:
    long_files = [
        f"{source.name}: {lines} lines" for source in ALL if (lines := source.text.count("\n")) > FILE_CAP
    ]
    long_functions = [
        f"{source.name}: {function.name} has {lines} lines"
        for source in ALL
        for function in functions(source)
        if (lines := body_lines(function)) > FUNCTION_CAP
    ]
    assert not long_files + long_functions, "split these by subject"


def test_modules_are_named_by_subject() -> None:
    assert [s.name for s in ALL if s.path.stem in {"utils", "helpers", "misc", "common"}] == []


def test_no_unfinished_work_is_committed() -> None:
    words = ("TODO", "FIXME", "XXX", "raise NotImplementedError")
    assert [f"{s.name}: {word}" for s in sources(*PACKAGES) for word in words if word in s.text] == []
