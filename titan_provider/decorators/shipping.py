"""From a Python function to a script that a worker can run: the function, and what it needs of its file.

The script has the DAG file's line numbers, so that a remote traceback points into the user's own file. Everything but
the function, the imports, plain values and helper functions that it uses is blank.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

from titan_provider.decorators.imports import check_import, is_import_block
from titan_provider.decorators.source import Module, function_lines, locate, names_needed
from titan_provider.exceptions import TitanFunctionRefused

__all__ = ["Shipment", "plan_shipment"]

_RUN = """\
if __name__ == "__main__":  # from here on: airflow-provider-titan
    import titan_job as _titan_job
    _titan_value = {name}(*_titan_job.params["args"], **_titan_job.params["kwargs"])
    if _titan_value is not None:
        _titan_job.result(_titan_value)
"""
# Every module has these, the script too.
_MODULE_NAMES = {"__name__", "__file__", "__doc__", "__builtins__", "__spec__", "__loader__", "__package__"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Shipment:
    """What of a file travels with one function."""

    function: FunctionType
    module: Module
    node: ast.FunctionDef
    imports: dict[int, list[str]] = field(default_factory=dict)
    """Import statements by line."""
    blocks: list[ast.stmt] = field(default_factory=list)
    """Statements such as ``try: import a; except ImportError: a = None``, copied whole."""
    helpers: list[Function] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    """Names of plain values, and the line that sets them."""

    @property
    def file_name(self) -> str:
        """What the remote traceback shows: ends with the user's file, and is no module's name."""
        return f"{self.node.name}@{Path(self.module.path).name}"

    def script(self) -> str:
        """The script. Plain values are those that the names have at this moment.

        :raises TitanFunctionRefused: a name has no value that could be written down
        """
        lines = [""] * len(self.module.lines)
        for block in self.blocks:
            rows = slice(block.lineno - 1, block.end_lineno)
            lines[rows] = self.module.lines[rows]
        for row, statements in self.imports.items():
            lines[row - 1] = "; ".join(statements)
        for name, row in self.values.items():
            text = f"{name} = {_literal(self.function, name)}"
            lines[row - 1] = f"{lines[row - 1]}; {text}" if lines[row - 1] else text
        for function in [*self.helpers, self.node]:
            body = function_lines(self.module, function)
            lines[function.lineno - 1 : function.lineno - 1 + len(body)] = body
            if function.col_offset:
                self._open_block(lines, function)
        lines[0] = (
            lines[0]
            or f"# {self.function.__name__}() of {Path(self.module.path).name}, with its line numbers"
        )
        return "\n".join([*lines, _RUN.format(name=self.node.name)])

    def _open_block(self, lines: list[str], function: Function) -> None:
        # An indented definition stays indented, so that texts over several lines keep what is in them.
        before = function.lineno - 2
        if lines[before]:
            raise _refused(self.function, f"needs line {before + 1}, above {function.name}(), to be empty")
        lines[before] = "if True:"


def plan_shipment(function: Any) -> Shipment:
    """Find out what must travel. Nothing is evaluated, so this works while the DAG file is still being imported.

    :raises TitanFunctionRefused: something that the function needs cannot travel
    """
    _check_kind(function)
    module, node = locate(function)
    shipment = Shipment(function, module, node)
    bindings = _Bindings(module.tree)
    shipment.blocks += [
        s for s in module.tree.body if isinstance(s, ast.ImportFrom) and s.module == "__future__"
    ]
    waiting: list[Function] = [node]
    seen = {node.name}
    while waiting:
        user = waiting.pop()
        read, written = names_needed(user)
        if written:
            raise _refused(
                function,
                f"sets the global {_names(written)}, which nobody in Airflow would see; return the value instead",
            )
        names = sorted(read - seen)
        while names:
            name = names.pop()
            if name in seen:
                continue
            seen.add(name)
            found = _take(shipment, bindings, name)
            if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
                waiting.append(found)
            names += found if isinstance(found, list) else []
    return shipment


def _check_kind(function: Any) -> None:
    if not isinstance(function, FunctionType):
        raise TitanFunctionRefused(f"@task.titan wants a function written with def, not {function!r}")
    if function.__name__ == "<lambda>":
        raise _refused(function, "is a lambda; write it with def")
    if hasattr(function, "__wrapped__"):
        raise _refused(function, "is wrapped by another decorator, which cannot travel; remove that one")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise _refused(function, "is asynchronous; write a plain function, and call asyncio.run() in it")
    if inspect.isgeneratorfunction(function):
        raise _refused(function, "is a generator, whose values cannot be one result; return a list")
    if outer := set(function.__code__.co_freevars) - {function.__name__}:
        raise _refused(
            function,
            f"uses {_names(outer)} of the function around it, which cannot travel; "
            "pass it as an argument, or import it inside the function",
        )


class _Bindings:
    """Every name that the file binds outside functions and classes, and by which statement."""

    def __init__(self, tree: ast.Module) -> None:
        self.of: dict[str, list[tuple[ast.stmt, ast.stmt]]] = {}
        """Name -> (the statement, the one at the file's top level that holds it)."""
        self.star = ""
        for top in tree.body:
            for statement in _statements(top):
                for name in _bound(statement):
                    self.of.setdefault(name, []).append((statement, top))
                if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
                    self.star = statement.module or "."


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


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, Function | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    else:
        for node in ast.iter_child_nodes(statement):
            if not isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
                yield from (
                    n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
                )


def _take(shipment: Shipment, bindings: _Bindings, name: str) -> Function | list[str] | None:
    """Add what one global name needs; the helper function behind it, or further names, where there are any."""
    function = shipment.function
    found = bindings.of.get(name, [])
    if not found:
        if name in _MODULE_NAMES or hasattr(builtins, name):
            return None
        source = (
            f"comes from 'import *' of {bindings.star}" if bindings.star else "is not defined in its file"
        )
        raise _refused(function, f"uses {name!r}, which {source}; import it by name")
    statement, top = found[0]
    if all(isinstance(s, ast.Import | ast.ImportFrom) for s, _ in found) or is_import_block(top):
        return _take_import(shipment, name, found)
    if any(isinstance(s, ast.ClassDef) for s, _ in found):
        raise _refused(
            function,
            f"uses the class {name!r} of its file; define it inside the function, or in an installed module",
        )
    if any(isinstance(s, Function) for s, _ in found):
        if len(found) > 1 or not _is_always_run(top, statement) or statement.decorator_list:  # type: ignore[attr-defined]
            raise _refused(
                function,
                f"uses {name}(), which is decorated or defined under a condition, so its source is not the whole of it; "
                "make it a plain function",
            )
        shipment.helpers.append(statement)  # type: ignore[arg-type]
        return statement  # type: ignore[return-value]
    shipment.values[name] = statement.lineno
    return None


def _is_always_run(top: ast.stmt, statement: ast.stmt) -> bool:
    """Whether no condition stands around the statement; ``with DAG(...)`` is none."""
    if statement is top:
        return True
    return isinstance(top, ast.With) and any(_is_always_run(inner, statement) for inner in top.body)


def _take_import(shipment: Shipment, name: str, found: list[tuple[ast.stmt, ast.stmt]]) -> list[str] | None:
    statement, top = found[0]
    try:
        for one, _ in found:
            if isinstance(one, ast.Import | ast.ImportFrom):
                check_import(one, name, shipment.module.path, top)
    except ValueError as exc:
        raise _refused(shipment.function, str(exc)) from None
    if is_import_block(top):
        if top not in shipment.blocks:
            shipment.blocks.append(top)
        return sorted(
            {n.id for n in ast.walk(top) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        )
    assert isinstance(statement, ast.Import | ast.ImportFrom)
    alias = [a for a in statement.names if (a.asname or a.name.partition(".")[0]) == name]
    for each in alias:
        only = type(statement)(**{**dict(ast.iter_fields(statement)), "names": [each]})
        shipment.imports.setdefault(statement.lineno, []).append(ast.unparse(only))
    return None


def _literal(function: FunctionType, name: str) -> str:
    values: Mapping[str, Any] = function.__globals__
    if name not in values:
        raise _refused(function, f"uses {name!r}, which has no value when the task runs")
    text = repr(values[name])
    try:
        same = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        same = None
    if type(same) is not type(values[name]) or same != values[name]:
        raise _refused(
            function,
            f"uses the global {name!r}, a {type(values[name]).__name__}, which cannot travel; only numbers, texts and "
            "lists, tuples, sets and dicts of them can. Pass it as an argument, or make it inside the function",
        )
    return text


def _names(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


def _refused(function: FunctionType, problem: str) -> TitanFunctionRefused:
    return TitanFunctionRefused(f"@task.titan: {function.__name__}() {problem}")
