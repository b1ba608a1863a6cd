"""The names that a function needs from its file. They come from the compiler, which knows the globals of each scope."""

from __future__ import annotations

import ast
import dis
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

__all__ = ["Names", "class_annotations", "codes_of", "names_of", "stored_by", "submodules"]

_READS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}


@dataclass(frozen=True)
class Names:
    """The global names of some code, nested code included."""

    read: frozenset[str]
    either: frozenset[str]
    """Names that a class body both reads and sets. Before the assignment, such a name is the global one."""
    written: frozenset[str]


def names_of(code: CodeType) -> Names:
    """The names in a function's code. Annotations count if the compiler evaluates them."""
    read: set[str] = set()
    either: set[str] = set()
    written: set[str] = set()
    for inner in codes_of(code):
        found = [(i.opname, str(i.argval)) for i in dis.get_instructions(inner)]
        own = {name for operation, name in found if operation == "STORE_NAME"}
        for operation, name in found:
            if operation in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                written.add(name)
            elif operation == "LOAD_GLOBAL" or (operation in _READS and name not in own):
                read.add(name)
            elif operation in _READS:
                either.add(name)
    return Names(frozenset(read), frozenset(either - read), frozenset(written))


def codes_of(code: CodeType) -> Iterator[CodeType]:
    """The code and all nested code, without annotations that are evaluated on demand."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and constant.co_name != "__annotate__":
            yield from codes_of(constant)


def stored_by(statement: ast.stmt) -> list[str]:
    """The names that a statement itself binds. The statements inside it do not count."""
    if isinstance(statement, ast.Break | ast.Continue | ast.Return):
        return []
    code = compile(
        ast.Module([_without_body(statement)], []), "<statement>", "exec", dont_inherit=True, optimize=0
    )
    return [str(i.argval) for i in dis.get_instructions(code) if i.opname in ("STORE_NAME", "STORE_GLOBAL")]


def _without_body(statement: ast.stmt) -> ast.stmt:
    fields: dict[str, Any] = dict(ast.iter_fields(statement))
    nothing = ast.copy_location(ast.Pass(), statement)
    for name in ("body", "orelse", "finalbody"):
        if fields.get(name):
            fields[name] = [nothing]
    if "handlers" in fields:
        fields["handlers"] = [
            ast.copy_location(ast.ExceptHandler(h.type, h.name, [nothing]), h)
            for h in statement.handlers  # type: ignore[attr-defined]
        ]
    if "cases" in fields:
        fields["cases"] = [ast.match_case(c.pattern, c.guard, [nothing]) for c in statement.cases]  # type: ignore[attr-defined]
    return ast.copy_location(type(statement)(**fields), statement)


def class_annotations(node: ast.AST) -> set[str]:
    """The names in annotations of class bodies. A dataclass looks them up even if they are texts."""
    return {
        name.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.ClassDef)
        for statement in inner.body
        if isinstance(statement, ast.AnnAssign)
        for name in ast.walk(statement.annotation)
        if isinstance(name, ast.Name)
    }


def submodules(node: ast.AST, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Modules that the code reaches through other modules, such as ``logging.handlers`` through ``logging``.

    :param values: the values of the names in the code
    :returns: pairs of a name and a module that must be loaded for the name's use
    """
    for inner in ast.walk(node):
        path: list[str] = []
        while isinstance(inner, ast.Attribute):
            path.insert(0, inner.attr)
            inner = inner.value
        module = values.get(inner.id) if path and isinstance(inner, ast.Name) else None
        for attribute in path:
            if not isinstance(module, ModuleType):
                break
            name = f"{module.__name__}.{attribute}"
            module = vars(module).get(attribute)
            if module is not None and sys.modules.get(name) is module:
                yield inner.id, name  # type: ignore[attr-defined]
