"""From a Python function to a script for a worker: the function, and the parts of its file that it needs.

The script has the DAG file's line numbers, so that a remote traceback points into the user's own file. It has the
function, and the imports, plain values and helper functions that the function uses. All other lines are blank. Globals
and defaults are written as the values that they have in Airflow, so that they are not evaluated twice.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

from titan_provider.decorators.classes import annotated_classes
from titan_provider.decorators.imports import check_import, is_for_type_checking, is_import_block, star_of
from titan_provider.decorators.literals import PLAIN, Literals, Unwritable
from titan_provider.decorators.names import Names, class_annotations, names_of, submodules
from titan_provider.decorators.source import (
    Binding,
    Function,
    Module,
    defaults_of,
    function_lines,
    locate,
)
from titan_provider.exceptions import TitanFunctionRefused

__all__ = ["Shipment", "plan_shipment"]

_LOAD = """\
for _titan_module in {modules}:  # in Airflow they are loaded by something else
    try:
        __import__(_titan_module)
    except ImportError:  # the function says so where it needs it
        pass
"""
_RUN = """\
if __name__ == "__main__":  # from here on: airflow-provider-titan
    import titan_job as _titan_job
    _titan_given = _titan_job.read_params({classes}, {setting!r})
    _titan_returned = {name}(*_titan_given["args"], **_titan_given["kwargs"])
    if _titan_returned is not None:
        _titan_job.result(_titan_returned{serializer})
"""
_MISSING = object()
Position = tuple[float, int]


@dataclass
class Shipment:
    """The parts of a file that travel with one function."""

    function: FunctionType
    module: Module
    node: ast.FunctionDef
    imports: dict[tuple[int, int, int], str] = field(default_factory=dict)
    """Import statements by their place in the file."""
    imported: set[str] = field(default_factory=set)
    """Names that these imports bind. They must have a value in Airflow too."""
    blocks: list[ast.stmt] = field(default_factory=list)
    """Statements such as ``try: import a; except ImportError: a = None``, copied whole."""
    helpers: list[Function] = field(default_factory=list)
    values: dict[str, Position] = field(default_factory=dict)
    """Names of plain values, with the place of the assignment. A value that no line of the file sets goes to the end."""
    modules: set[str] = field(default_factory=set)
    """Modules that the worker must load, because they are loaded in Airflow, possibly by another file."""

    @property
    def file_name(self) -> str:
        """The file name in a remote traceback. It ends with the user's file name, and no module has this name."""
        return f"{self.node.name}@{Path(self.module.path).name}"

    def check(self) -> None:
        """Refuse values that are known by now and cannot travel: globals that are set once, and defaults.

        :raises TitanFunctionRefused: the sentence names the global, or the function and the parameter
        """
        for name in self.values:
            value = self.function.__globals__.get(name, _MISSING)
            if value is not _MISSING and self._is_final(name):
                self._writable([value], name)
        for node in [self.node, *self.helpers]:
            if (function := self._function(node)) is not None:
                self._defaults(node, function)

    def script(self, serializer: str = "json") -> str:
        """The script. Plain values are the present values of the names.

        :param serializer: the serializer of the returned value
        :raises TitanFunctionRefused: a name has no value, or a value that cannot be written
        """
        self.check()
        values = {name: self._value(name) for name in [*self.values, *sorted(self.imported)]}
        for name in self.values:
            self._writable([values[name]], name)
        defaults = {node: self._defaults(node, self._helper(node)) for node in [self.node, *self.helpers]}
        todo: list[tuple[Position, Any, Any]] = [
            (place, name, values[name]) for name, place in self.values.items()
        ]
        for found in defaults.values():
            todo += [((e.lineno, e.col_offset), e, value) for e, _, value in found]
        todo.sort(key=lambda item: item[0])
        literals = self._writable([value for _, _, value in todo], "")
        written = {key: literals.write(value) for _, key, value in todo}

        lines = [""] * len(self.module.lines)
        for block in self.blocks:
            rows = slice(block.lineno - 1, block.end_lineno)
            lines[rows] = self.module.lines[rows]
        for node in defaults:
            texts = {e: written[e] for e, _, _ in defaults[node]}
            body = function_lines(self.module, node, texts)
            lines[node.lineno - 1 : node.lineno - 1 + len(body)] = body
        short: list[tuple[float, int, str]] = [
            (row, column, t) for (row, column, _), t in self.imports.items()
        ]
        short += [(*place, f"{name} = {written[name]}") for name, place in self.values.items()]
        last = []
        for row, _, text in sorted(short, key=lambda item: item[:2]):
            if row > len(lines):
                last.append(text)
            else:
                before = lines[int(row) - 1]
                lines[int(row) - 1] = f"{before}; {text}" if before else text
        file = Path(self.module.path).name
        lines[0] = lines[0] or f"# {self.node.name}() of {file}, with its line numbers"
        if self.modules:
            last.append(_LOAD.format(modules=tuple(sorted(self.modules))))
        return "\n".join([*lines, *last, self._run(serializer)])

    def _run(self, serializer: str) -> str:
        return _RUN.format(
            name=self.node.name,
            classes=annotated_classes(self.function, self.node, self.module.tree) or (),
            setting="name it in the annotation of the parameter",
            serializer="" if serializer == "json" else f", serializer={serializer!r}",
        )

    def _is_final(self, name: str) -> bool:
        """Whether the name's value while the file is read is probably the value when the task runs."""
        found = self.module.bindings.get(name, ())
        return len(found) <= 1 or all((b.top.end_lineno or 0) < self.node.lineno for b in found)

    def _value(self, name: str) -> Any:
        value = self.function.__globals__.get(name, _MISSING)
        if value is _MISSING:
            raise _refused(self.function, f"uses {name!r}, which has no value when the task runs")
        return value

    def _function(self, node: Function) -> FunctionType | None:
        """The function of a definition; None if the definition has not run yet."""
        if node is self.node:
            return self.function
        value = self.function.__globals__.get(node.name)
        return value if isinstance(value, FunctionType) and value.__code__ == self.module.code(node) else None

    def _helper(self, node: Function) -> FunctionType:
        function = self._function(node)
        if function is None:
            raise _refused(
                self.function,
                f"uses {node.name}(), which is no longer the function of its def when the task runs",
            )
        return function

    def _defaults(self, node: Function, function: FunctionType) -> list[tuple[ast.expr, str, Any]]:
        of = "" if node is self.node else f"uses {node.name}(), which "
        try:
            found = defaults_of(node, function)
        except ValueError as exc:
            raise _refused(self.function, f"{of}{exc}, which cannot travel") from None
        for _, parameter, value in found:
            try:
                Literals([value])
            except Unwritable as exc:
                raise _refused(
                    self.function,
                    f"{of}has a default for {parameter!r}{exc}, which cannot travel; only {PLAIN} can. "
                    "Let None stand for it, and make it inside the function",
                ) from None
        return found

    def _writable(self, values: Iterable[Any], name: str) -> Literals:
        try:
            return Literals(values)
        except Unwritable as exc:
            raise _refused(
                self.function,
                f"uses the global {name!r}{exc}, which cannot travel; only {PLAIN} can. "
                "Pass it as an argument, or make it inside the function",
            ) from None


def plan_shipment(function: Any, project: Any = None) -> Shipment:
    """Find the parts that must travel. Nothing is evaluated, so this works during the import of the DAG file.

    :param project: the folder that travels with the task, as the DAG's author wrote it
    :raises TitanFunctionRefused: the function needs a part that cannot travel
    """
    _check_kind(function)
    module, node = locate(function)
    shipment = Shipment(function, module, node)
    for statement in module.tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            shipment.imports[statement.lineno, statement.col_offset, 0] = ast.unparse(statement)
    _Planner(shipment, project).plan()
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


class _Planner:
    """Follows the names in the function to all parts that it needs."""

    def __init__(self, shipment: Shipment, project: Any) -> None:
        self.shipment = shipment
        # The path may be unknown until the task runs, such as another task's output. It then counts as a template.
        self.project = os.fspath(project) if isinstance(project, str | os.PathLike) else project and "{{"
        self.function, self.module, self.node = shipment.function, shipment.module, shipment.node
        self.waiting: list[Function] = [self.node]
        self.seen: set[str] = set()
        bound = self.module.bindings.get(self.node.name, ())
        if any(each.statement is self.node for each in bound) or not bound:
            self.seen.add(self.node.name)

    def plan(self) -> None:
        """Fill the shipment."""
        while self.waiting:
            user = self.waiting.pop()
            code = self.module.code(user)
            assert code is not None
            names = names_of(code)
            self._check_names(names)
            for name in sorted(names.read):
                self._take(name)
            for name in sorted(names.either & self.module.bindings.keys()):
                self._take(name)
            for name in sorted(class_annotations(user) - self.seen):
                self._take_for_annotation(name)
            covered = set(self.shipment.imports.values())
            self.shipment.modules |= {
                module
                for name, module in submodules(user, self.function.__globals__)
                if name in self.shipment.imported and f"import {module}" not in covered
            }

    def _check_names(self, names: Names) -> None:
        if names.written:
            raise self._refused(
                f"sets the global {_names(names.written)}, which Airflow would not see; return the value instead"
            )
        owner, _, _ = self.function.__qualname__.rpartition(".")
        mangled = f"_{owner.rpartition('.')[2].lstrip('_')}__"
        if owner and not owner.endswith("<locals>") and any(n.startswith(mangled) for n in names.read):
            raise self._refused("uses a name with two underscores in a class; define it outside of the class")

    def _take(self, name: str, by_condition: bool = False) -> None:
        """Add the parts that one global name needs.

        :param by_condition: the name is in the condition of an import, which is evaluated while the file is read
        """
        if name in self.seen:
            return
        self.seen.add(name)
        if name == self.node.name:
            raise self._refused(
                f"has the name of another function of the file, {name}(), that is used; rename one"
            )
        if star := star_of(name, self.module.stars):
            raise self._refused(f"uses {name!r}, which comes from 'import *' of {star}; import it by name")
        found = self.module.bindings.get(name, ())
        if not found:
            self._take_unbound(name)
        elif all(self._is_import(each) for each in found):
            self._take_import(name, found)
        elif any(each.defines and isinstance(each.statement, ast.ClassDef) for each in found):
            raise self._refused(
                f"uses the class {name!r} of its file; define it inside the function, or in an installed module"
            )
        elif any(each.defines and isinstance(each.statement, Function) for each in found):
            self._take_helper(name, found)
        else:
            if by_condition and len(found) > 1:
                raise self._refused(
                    f"needs an import under a condition on {name!r}, which is set more than once; import it inside the function"
                )
            self._take_value(name, found)

    def _take_unbound(self, name: str) -> None:
        if name in ("__name__", "__builtins__"):
            return
        if name == "__file__":
            raise self._refused(
                "uses __file__, which on the worker is another file; pass what it needs as an argument"
            )
        if name in self.function.__globals__:
            self.shipment.values[name] = (math.inf, 0)
        elif name == "globals":
            raise self._refused(
                "calls globals(), which on the worker hold only what travels; use names instead"
            )
        elif not hasattr(builtins, name):
            star = self.module.stars[-1] if self.module.stars else ""
            source = f"comes from 'import *' of {star}" if star else "is not defined in its file"
            raise self._refused(f"uses {name!r}, which {source}; import it by name")

    def _take_helper(self, name: str, found: tuple[Binding, ...]) -> None:
        (statement, *others) = [each.statement for each in found]
        if others or not isinstance(statement, Function) or statement.decorator_list:
            raise self._refused(
                f"uses {name}(), which is decorated or defined more than once, so its source is not the whole of it; "
                "make it a plain function"
            )
        if self.module.code(statement) is None:
            raise self._refused(f"uses {name}(), which is defined where nothing ever runs")
        self.shipment.helpers.append(statement)
        self.waiting.append(statement)

    def _take_value(self, name: str, found: tuple[Binding, ...]) -> None:
        lines = [
            (each.statement.lineno, each.statement.col_offset)
            for each in found
            if not each.defines and not isinstance(each.statement, Function | ast.ClassDef)
        ]
        self.shipment.values[name] = lines[-1] if lines else (math.inf, 0)

    def _is_import(self, binding: Binding) -> bool:
        is_import = binding.defines and isinstance(binding.statement, ast.Import | ast.ImportFrom)
        return is_import or is_import_block(binding.top)

    def _take_import(self, name: str, found: tuple[Binding, ...]) -> None:
        """Add all imports of a name, because each may load a part of the same package, or replace the others."""
        running = [each for each in found if not is_for_type_checking(each.statement, each.top)]
        if not running:
            raise self._refused(
                f"uses {name!r}, which is imported for type checking only; import it inside the function"
            )
        for each in running:
            if isinstance(each.statement, ast.Import | ast.ImportFrom):
                try:
                    check_import(each.statement, name, self.module.path, self.project)
                except ValueError as exc:
                    raise self._refused(str(exc)) from None
        plain = [each for each in running if not is_import_block(each.top)]
        if len(running) > 1 and any(not _is_always_run(each.top, each.statement) for each in plain):
            raise self._refused(
                f"uses {name!r}, which is imported more than once, under conditions; "
                "let the if or try around the imports do nothing else"
            )
        for each in running:
            if each in plain:
                self.shipment.imported.add(name)
                self._ship_import(each.statement, name)
            elif each.top not in self.shipment.blocks:
                self._ship_block(each.top)

    def _ship_import(self, statement: ast.stmt, name: str) -> None:
        assert isinstance(statement, ast.Import | ast.ImportFrom)
        for index, alias in enumerate(statement.names):
            if (alias.asname or alias.name.partition(".")[0]) == name:
                only = type(statement)(**{**dict(ast.iter_fields(statement)), "names": [alias]})
                self.shipment.imports[statement.lineno, statement.col_offset, index] = ast.unparse(only)

    def _ship_block(self, block: ast.stmt) -> None:
        self.shipment.blocks.append(block)
        names = names_of(compile(ast.Module([block], []), "<block>", "exec", dont_inherit=True))
        for name in sorted(names.read):
            self._take(name, by_condition=True)

    def _take_for_annotation(self, name: str) -> None:
        """Add a name in a class's annotation if it is from the standard library, such as ClassVar. Others are not needed."""
        found = self.module.bindings.get(name, ())
        if found and all(each.defines and _is_standard(each.statement) for each in found):
            self._take(name)

    def _refused(self, problem: str) -> TitanFunctionRefused:
        return _refused(self.function, problem)


def _is_standard(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return not statement.level and (statement.module or "").partition(".")[0] in sys.stdlib_module_names
    return isinstance(statement, ast.Import) and all(
        alias.name.partition(".")[0] in sys.stdlib_module_names for alias in statement.names
    )


def _is_always_run(top: ast.stmt, statement: ast.stmt) -> bool:
    """Whether there is no condition around the statement. ``with DAG(...)`` does not count as one."""
    if statement is top:
        return True
    return isinstance(top, ast.With) and any(_is_always_run(inner, statement) for inner in top.body)


def _names(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


def _refused(function: FunctionType, problem: str) -> TitanFunctionRefused:
    return TitanFunctionRefused(f"@task.titan: {function.__name__}() {problem}")
