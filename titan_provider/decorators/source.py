"""A function's source in its file, and which global names it needs there. Reads text; executes nothing.

Lines are copied whole, never re-indented or re-printed: comments, long strings and line numbers stay as they are.
Only annotations of the signature are cut out, because they are evaluated where the function is defined and name types
that a worker need not have.
"""

from __future__ import annotations

import ast
import copy
import dis
import inspect
import io
import linecache
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType

from titan_provider.exceptions import TitanFunctionRefused

__all__ = ["Module", "function_lines", "locate", "names_needed", "read_module"]


@dataclass(frozen=True)
class Module:
    """One Python file."""

    path: str
    lines: tuple[str, ...]
    tree: ast.Module


def locate(function: FunctionType) -> tuple[Module, ast.FunctionDef]:
    """The file and the definition of a function.

    :raises TitanFunctionRefused: there is no such file, or it has changed since it was imported
    """
    name = function.__name__
    path = inspect.getsourcefile(function)
    if path is None:
        raise TitanFunctionRefused(
            f"@task.titan cannot find the source of {name}(): it was not read from a file; define it in the DAG file"
        )
    linecache.checkcache(path)
    lines = linecache.getlines(path, function.__globals__)
    module = read_module(path, tuple(line.rstrip("\r\n") for line in lines))
    first = function.__code__.co_firstlineno
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef) and node.name == function.__code__.co_name:
            starts = [node.lineno, *(decorator.lineno for decorator in node.decorator_list)]
            if min(starts) == first:
                return module, node
    raise TitanFunctionRefused(
        f"@task.titan cannot find {name}() at line {first} of {path}: the file has changed since it was imported, "
        "or the function was made in another way than by def"
    )


@lru_cache(maxsize=16)
def read_module(path: str, lines: tuple[str, ...]) -> Module:
    """The file, parsed once for all the functions in it."""
    return Module(path, lines, ast.parse("\n".join(lines) + "\n", filename=path))


def names_needed(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[set[str], set[str]]:
    """Global names that the function reads, its defaults included, and those that it sets.

    The compiler decides what is global: a name in a nested scope, a comprehension or a walrus is no guesswork.
    """
    bare = copy.deepcopy(node)
    bare.decorator_list = []
    bare.returns = None
    for arg in _arguments(bare):
        arg.annotation = None
    code = compile(ast.Module(body=[bare], type_ignores=[]), "<function>", "exec", dont_inherit=True)
    read: set[str] = set()
    written: set[str] = set()
    for inner in _codes(code):
        for instruction in dis.get_instructions(inner):
            operation, name = instruction.opname, str(instruction.argval)
            if operation in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                written.add(name)
            elif operation in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
                read.add(name)
    # A class body reads its own names, and the module dictionary the function's, by LOAD_NAME too.
    local = {inner.co_names[i] for inner in _codes(code) for i in _stored(inner)}
    return {name for name in read if name not in local} - {node.name}, written


def _stored(code: CodeType) -> Iterator[int]:
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_NAME" and instruction.arg is not None:
            yield instruction.arg


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def function_lines(module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The definition's own lines, without decorators and without annotations of its signature."""
    end = node.end_lineno or node.lineno
    lines = list(module.lines[node.lineno - 1 : end])
    spans = [_annotation_span(arg) for arg in _arguments(node) if arg.annotation is not None]
    if node.returns is not None:
        spans.append(_returns_span(lines, node.lineno))
    for (row, column), (end_row, end_column) in sorted(spans, reverse=True):
        first, last = row - node.lineno, end_row - node.lineno
        head = lines[first].encode()[:column].decode()
        tail = lines[last].encode()[end_column:].decode()
        lines[first : last + 1] = [head + tail, *[""] * (last - first)]
    return lines


Position = tuple[int, int]


def _annotation_span(arg: ast.arg) -> tuple[Position, Position]:
    start = (arg.lineno, arg.col_offset + len(arg.arg.encode()))
    return start, (arg.end_lineno or arg.lineno, arg.end_col_offset or 0)


def _returns_span(lines: list[str], first: int) -> tuple[Position, Position]:
    """From ``->`` up to the colon; in bytes, as everything of ``ast``."""
    depth, arrow = 0, None
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline):
        if token.type != tokenize.OP:
            continue
        depth += (token.string in "([{") - (token.string in ")]}")
        if depth == 0 and token.string in ("->", ":"):
            row, column = token.start
            position = (first + row - 1, len(token.line.splitlines()[0][:column].encode()))
            if token.string == ":":
                assert arrow is not None
                return arrow, position
            arrow = position
    raise AssertionError("a parsed signature has a colon")


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    given = node.args
    several = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return several + [arg for arg in (given.vararg, given.kwarg) if arg is not None]
