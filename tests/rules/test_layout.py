"""Caps on size: a file or function that outgrows them is split by subject."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.rules.sources import PACKAGES, Source, sources

FILE_CAP = 400
FUNCTION_CAP = 50
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


@pytest.mark.parametrize("source", ALL, ids=lambda source: source.name)
def test_files_and_functions_stay_small(source: Source) -> None:
    lines = source.text.count("\n")
    assert lines <= FILE_CAP, f"{source.name} has {lines} lines; split it by subject"
    long = [f.name for f in functions(source) if body_lines(f) > FUNCTION_CAP]
    assert not long, f"{source.name}: longer than {FUNCTION_CAP} lines: {', '.join(long)}"


@pytest.mark.parametrize("source", ALL, ids=lambda source: source.name)
def test_modules_are_named_by_subject(source: Source) -> None:
    assert source.path.stem not in {"utils", "helpers", "misc", "common"}


@pytest.mark.parametrize("source", sources(*PACKAGES), ids=lambda source: source.name)
def test_no_unfinished_work_is_committed(source: Source) -> None:
    for word in ("TODO", "FIXME", "XXX", "raise NotImplementedError"):
        assert word not in source.text, f"{source.name} holds {word}"
