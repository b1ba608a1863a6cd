"""The classes in a function's annotations. The function's arguments may be objects of these classes."""

from __future__ import annotations

import ast
import dataclasses
import enum
import typing
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["annotated_classes"]


def annotated_classes(
    function: Callable[..., Any], node: ast.FunctionDef, tree: ast.Module
) -> tuple[str, ...]:
    """The classes' names, such as ``shop.models.Order``: enumerations, dataclasses, named tuples, models, and the classes
    of their fields.

    :param node: the function's definition
    :param tree: its file. The imports there give the meaning of names that exist for type checkers only
    """
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - an annotation is any expression, and its names may not be imported
        return tuple(sorted(set(_written(node, tree))))
    hints.pop("return", None)
    found: set[str] = set()
    for hint in hints.values():
        _collect(hint, found)
    return tuple(sorted(found))


def _collect(hint: Any, found: set[str]) -> None:
    for inner in typing.get_args(hint):
        _collect(inner, found)
    if not isinstance(hint, type) or not _is_made_of_fields(hint):
        return
    name = f"{hint.__module__}.{hint.__qualname__}"
    if name in found:
        return
    found.add(name)
    try:
        fields = typing.get_type_hints(hint)
    except Exception:  # noqa: BLE001 - as above
        return
    for inner in fields.values():
        _collect(inner, found)


def _is_made_of_fields(kind: type) -> bool:
    return (
        issubclass(kind, enum.Enum)
        or dataclasses.is_dataclass(kind)
        or hasattr(kind, "model_fields")
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )


def _written(node: ast.FunctionDef, tree: ast.Module) -> Iterator[str]:
    """The classes in the texts of the annotations, by the imports of the file."""
    given = node.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    homes = {}
    for statement in ast.walk(tree):
        if isinstance(statement, ast.ImportFrom) and not statement.level:
            homes.update({a.asname or a.name: f"{statement.module}.{a.name}" for a in statement.names})
        elif isinstance(statement, ast.Import):
            homes.update({a.asname or a.name.partition(".")[0]: a.name for a in statement.names if a.asname})
    for argument in arguments:
        annotation = argument.annotation if argument is not None else None
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        for inner in ast.walk(annotation) if annotation is not None else ():
            if isinstance(inner, ast.Name | ast.Attribute):
                first, _, rest = ast.unparse(inner).partition(".")
                yield ".".join(filter(None, (homes.get(first, first), rest)))
