"""A DAG file as text and as compiled code: the place of each function, and the statements that bind each name.

Lines are copied whole and never re-printed, so comments, long strings and line numbers stay unchanged. Two parts of a
signature are replaced, because Python evaluates them at the function's definition. Annotations are removed, because a
worker may not have their types. Defaults become the values that they had in Airflow.
"""

from __future__ import annotations

import ast
import inspect
import io
import linecache
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType

from titan_provider.decorators.names import codes_of, stored_by
from titan_provider.exceptions import TitanFunctionRefused

__all__ = ["Binding", "Function", "Module", "defaults_of", "function_lines", "locate", "read_module"]

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Binding:
    """A statement outside functions and classes that binds a name."""

    statement: ast.stmt
    top: ast.stmt
    """The top-level statement around it."""
    defines: bool
    """Whether the statement is an import, function or class of that name. Otherwise it sets the name in another way."""


@dataclass(frozen=True)
class Module:
    """One Python file."""

    path: str
    lines: tuple[str, ...]
    tree: ast.Module
    codes: Mapping[tuple[str, int], CodeType]
    """The code of every function, by its name and first line. A decorator's line counts as the first."""
    functions: Mapping[tuple[str, int], ast.FunctionDef]
    """The definition of every function, by name and first line."""
    bindings: Mapping[str, tuple[Binding, ...]]
    stars: tuple[str, ...]
    """The modules of ``import *``."""

    def code(self, node: Function) -> CodeType | None:
        """The compiled code of a function in the file; None if the compiler has left it out."""
        return self.codes.get(_place(node))


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
    module = read_module(path, tuple(lines))
    code = function.__code__
    node = module.functions.get((code.co_name, code.co_firstlineno))
    # The compiled code must be equal, so that the script is the function that Airflow has imported.
    if node is not None and module.code(node) == code:
        return module, node
    raise TitanFunctionRefused(
        f"@task.titan cannot find {name}() at line {code.co_firstlineno} of {path}: the file has changed since it was "
        "imported, or the function was made in another way than by def"
    )


@lru_cache(maxsize=16)
def read_module(path: str, text: tuple[str, ...]) -> Module:
    """The file, parsed and compiled once for all its functions."""
    lines = tuple(line.rstrip("\r\n") for line in text)
    tree = ast.parse("\n".join(lines) + "\n", filename=path)
    code = compile(tree, path, "exec", dont_inherit=True)
    codes = {(inner.co_name, inner.co_firstlineno): inner for inner in codes_of(code)}
    functions = {_place(node): node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    bindings: dict[str, tuple[Binding, ...]] = {}
    stars = []
    for top in tree.body:
        for statement in _statements(top):
            if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
                stars.append("." * statement.level + (statement.module or ""))
                continue
            for name in stored_by(statement):
                defines = isinstance(statement, ast.Import | ast.ImportFrom) or (
                    isinstance(statement, Function | ast.ClassDef) and statement.name == name
                )
                bindings[name] = (*bindings.get(name, ()), Binding(statement, top, defines))
    return Module(path, lines, tree, codes, functions, bindings, tuple(stars))


def _place(node: Function) -> tuple[str, int]:
    return node.name, min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _statements(top: ast.stmt) -> Iterator[ast.stmt]:
    yield top
    if isinstance(top, Function | ast.ClassDef):
        return
    for child in ast.iter_child_nodes(top):
        if isinstance(child, ast.stmt):
            yield from _statements(child)
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            for statement in child.body:
                yield from _statements(statement)


def defaults_of(node: Function, function: FunctionType) -> list[tuple[ast.expr, str, object]]:
    """The function's present defaults: for each the expression in the file, the parameter and the value.

    :raises ValueError: the defaults were changed after the definition
    """
    positional = [*node.args.posonlyargs, *node.args.args]
    values = function.__defaults__ or ()
    written = node.args.defaults
    named = [(e, arg.arg) for e, arg in zip(node.args.kw_defaults, node.args.kwonlyargs, strict=True) if e]
    keyword = function.__kwdefaults__ or {}
    if len(values) != len(written) or {name for _, name in named} != set(keyword):
        raise ValueError("has other defaults than its definition")
    first = len(positional) - len(written)
    found = [(e, arg.arg, value) for e, arg, value in zip(written, positional[first:], values, strict=True)]
    return [*found, *((e, name, keyword[name]) for e, name in named)]


def function_lines(module: Module, node: Function, defaults: Mapping[ast.expr, str]) -> list[str]:
    """The definition's lines without indentation, decorators, and annotations in the signature.

    :param defaults: the text in place of each default
    """
    first = node.lineno
    lines = list(module.lines[first - 1 : node.end_lineno])
    as_they_are = _rows_inside_texts(lines)
    spans = [(*_annotation_span(arg), "") for arg in _arguments(node) if arg.annotation is not None]
    spans += [((e.lineno, e.col_offset), _end(e), text) for e, text in defaults.items()]
    arrow = None
    if node.returns is not None:
        arrow, colon = _returns_span(lines, first)
        spans.append((arrow, colon, ""))
    for (row, column), (end_row, end_column), text in sorted(spans, reverse=True):
        head = lines[row - first].encode()[:column].decode()
        tail = lines[end_row - first].encode()[end_column:].decode()
        # Inside brackets a line may end anywhere. After them it needs a backslash. The tail stays one line, because a
        # text may begin in it.
        end = " \\" if (row, column) == arrow else ""
        over = [head + text + end, *[end] * (end_row - row - 1)] if end_row > row else []
        lines[row - first : end_row - first + 1] = [*over, tail] if over else [head + text + tail]
    margin = lines[0][: node.col_offset]
    return [line if n in as_they_are else line.removeprefix(margin) for n, line in enumerate(lines)]


def _rows_inside_texts(lines: list[str]) -> set[int]:
    """Rows that begin inside a text of several lines. Their leading spaces belong to the text."""
    rows: set[int] = set()
    begun: list[int] = []
    opening, closing = getattr(tokenize, "FSTRING_START", None), getattr(tokenize, "FSTRING_END", None)
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline):
        if token.type == opening:
            begun.append(token.start[0])
        elif token.type == closing:
            rows.update(range(begun.pop(), token.end[0]))
        elif token.type == tokenize.STRING:
            rows.update(range(token.start[0], token.end[0]))
    return rows


Position = tuple[int, int]


def _end(node: ast.expr | ast.arg) -> Position:
    return node.end_lineno or node.lineno, node.end_col_offset or 0


def _annotation_span(arg: ast.arg) -> tuple[Position, Position]:
    return (arg.lineno, arg.col_offset + len(arg.arg.encode())), _end(arg)


def _returns_span(lines: list[str], first: int) -> tuple[Position, Position]:
    """The span from ``->`` up to the colon, in bytes, as in ``ast``."""
    depth, arrow = 0, None
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline):
        if token.type != tokenize.OP:
            continue
        depth += (token.string in "([{") - (token.string in ")]}")
        if depth == 0 and token.string in ("->", ":"):
            row, column = token.start
            position = (first + row - 1, len(lines[row - 1][:column].encode()))
            if token.string == ":":
                assert arrow is not None
                return arrow, position
            arrow = position
    raise AssertionError("a parsed signature has a colon")


def _arguments(node: Function) -> list[ast.arg]:
    given = node.args
    several = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return several + [arg for arg in (given.vararg, given.kwarg) if arg is not None]
