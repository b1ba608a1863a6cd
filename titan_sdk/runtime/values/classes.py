"""Objects of classes: members of enumerations, named tuples, dataclasses, pydantic's models.

The class travels as a name. A reader makes objects of allowed classes only. It sets the fields directly, so neither
``__init__`` nor a validator runs.
"""

from __future__ import annotations

import sys

from .errors import NotAllowed, Unreadable
from .standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Optional

    from .reading import Reader
    from .writing import Writer

__all__ = [
    "allowed",
    "find",
    "name_of",
    "read_dataclass",
    "read_enum",
    "read_namedtuple",
    "read_pydantic",
    "shown",
    "write_dataclass",
    "write_enum",
    "write_namedtuple",
    "write_pydantic",
]


def name_of(kind: type) -> str:
    """The name of a class for a message."""
    return "%s.%s" % (kind.__module__, kind.__qualname__)


def shown(key: Any) -> str:
    """A key as a part of a place."""
    try:
        text = repr(key)
    except Exception:  # noqa: BLE001 - it is the user's code, and Python refuses to write very long numbers
        return "a %s" % type(key).__qualname__
    return text if len(text) <= 100 else text[:97] + "..."


def allowed(name: str, classes: Iterable[Any]) -> Any:
    """The class itself, or True if a pattern allows ``module.Class``; None if the class is not allowed."""
    matches = standard("fnmatch").fnmatchcase
    for entry in classes:
        if isinstance(entry, type):
            if name_of(entry) == name:
                return entry
        elif isinstance(entry, str):
            if matches(name, entry.replace(":", ".")):
                return True
        elif entry.fullmatch(name):  # a compiled regular expression
            return True
    return None


def find(name: str, found: Any) -> Any:
    """The class called ``module:Class``.

    Args:
        found: the class, if it is known. Otherwise it is imported.
    """
    if isinstance(found, type):
        return found
    module, _, path = name.partition(":")
    try:
        __import__(module)
        here: Any = sys.modules[module]
        for part in path.split("."):
            here = getattr(here, part)
    except (ImportError, AttributeError) as exc:
        raise Unreadable(
            "the class %s cannot be imported here (%s); install its package on this machine"
            % (name[:200], exc)
        ) from exc
    if not isinstance(here, type) or name_of(here) != name.replace(":", "."):
        raise Unreadable("%s is no class" % name[:200])
    return here


def _is_importable(kind: type) -> bool:
    """Whether another process can import the class. A class of a script or of an Airflow DAG file cannot be imported."""
    here: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        here = getattr(here, part, None)
    return (
        here is kind and kind.__module__ != "__main__" and not kind.__module__.startswith("unusual_prefix_")
    )


def _name(writer: Writer, kind: type) -> str:
    if not _is_importable(kind):
        raise writer.refused(
            "is of the class %s, which no other process can import; define it in a module that both ends have"
            % name_of(kind)
        )
    return "%s:%s" % (kind.__module__, kind.__qualname__)


# -- enumerations ------------------------------------------------------------------------------------------------


def write_enum(writer: Writer, value: Any) -> Any:
    """Write a member by its name, and a flag by its value. A member that is also a text or number gets ``plain``. If no
    other process can import its class, it becomes just this text or number.
    """
    kind = type(value)
    bases: Any = ((str, str.__str__), (int, int.__int__), (float, float.__float__))
    plain = [convert(value) for base, convert in bases if isinstance(value, base)]
    if plain and not _is_importable(kind):
        return writer.write(plain[0])
    fields = {"class": _name(writer, kind)}
    if isinstance(value, standard("enum").Flag):
        fields["value"] = value.value
    else:
        fields["name"] = value.name
    if plain:
        fields["plain"] = writer.write(plain[0])
    writer.typed = True
    return {"$": "enum", **fields}


def read_enum(reader: Reader, tree: Any) -> Any:
    """Read the member. If its class is not allowed, the result is the text or number that equals it."""
    try:
        kind = reader.class_of(tree)
    except NotAllowed:
        if "plain" not in tree:
            raise
        return reader.read(tree["plain"])
    if not issubclass(kind, standard("enum").Enum):
        raise reader.damaged("an enumeration", name_of(kind))
    return kind(reader.whole(tree["value"])) if "value" in tree else kind[reader.text(tree, "name")]


# -- named tuples ------------------------------------------------------------------------------------------------


def write_namedtuple(writer: Writer, value: Any) -> Any:
    """Write a named tuple. If no other process can import its class, it becomes a plain tuple."""
    if not _is_importable(type(value)):
        return writer.write(tuple(value))
    writer.enter(value)
    fields = [writer.at("." + name, item) for name, item in zip(value._fields, value)]
    writer.leave()
    return writer.tag("namedtuple", fields, **{"class": _name(writer, type(value))})


def read_namedtuple(reader: Reader, tree: Any) -> Any:
    """Read the named tuple. If its class is not allowed, the result is a plain tuple."""
    fields = reader.items(tree["v"])
    try:
        kind = reader.class_of(tree)
    except NotAllowed:
        return tuple(fields)
    if not issubclass(kind, tuple) or len(getattr(kind, "_fields", ())) != len(fields):
        raise reader.damaged("a named tuple of %d fields" % len(fields), name_of(kind))
    return tuple.__new__(kind, fields)


# -- dataclasses -------------------------------------------------------------------------------------------------


def write_dataclass(writer: Writer, value: Any) -> Any:
    """Write a dataclass by its fields, except those that were never set."""
    kind = type(value)
    if isinstance(value, (dict, list, tuple, set, frozenset, str, bytes, int, float)):
        raise writer.refused("is of %s, a dataclass and a built-in type at once" % name_of(kind))
    names = [field.name for field in standard("dataclasses").fields(value)]
    cached = standard("functools").cached_property
    for name in getattr(value, "__dict__", {}):
        if name not in names and not isinstance(getattr(kind, name, None), cached):
            raise writer.refused("has the attribute %r, which is no field of its dataclass" % name)
    missing = object()
    writer.enter(value)
    fields = {}
    for name in names:
        found = getattr(value, name, missing)
        if found is not missing:
            fields[name] = writer.at("." + name, found)
    writer.leave()
    return writer.tag("dataclass", fields, **{"class": _name(writer, kind)})


def read_dataclass(reader: Reader, tree: Any) -> Any:
    """Read the object, without a call of its class."""
    kind = reader.class_of(tree)
    described = getattr(kind, "__dataclass_fields__", None)
    if not isinstance(described, dict) or not isinstance(tree["v"], dict):
        raise reader.damaged("a dataclass", name_of(kind))
    known = {field.name: field for field in standard("dataclasses").fields(kind)}
    _same_fields(kind, tree["v"], known, [name for name, field in known.items() if field.init])
    made = object.__new__(kind)
    for name, item in tree["v"].items():
        object.__setattr__(made, name, reader.read(item))
    return made


def _same_fields(kind: type, found: Any, known: Iterable[str], needed: Iterable[str]) -> None:
    strange = sorted((set(found) - set(known)) | (set(needed) - set(found)))
    if strange:
        raise Unreadable(
            "%s has other fields here than where its object was written: %s; use one version on both ends"
            % (name_of(kind), ", ".join(strange)[:200])
        )


# -- pydantic ----------------------------------------------------------------------------------------------------


def write_pydantic(writer: Writer, value: Any) -> Any:
    """Write a model by its fields, with the other attributes of pydantic 2."""
    kind = type(value)
    if not hasattr(kind, "model_fields"):
        raise writer.refused("is a model of pydantic 1, which cannot be carried; send its dict()")
    missing = [name for name in kind.model_fields if name not in value.__dict__]
    if missing:
        raise writer.refused("has no field %r, which its model demands; construct it with that" % missing[0])
    writer.enter(value)
    fields = {
        name: writer.at("." + name, item) for name, item in value.__dict__.items() if _is_field(kind, name)
    }
    more: Any = {"class": _name(writer, kind), "set": sorted(value.model_fields_set)}
    for name, where in (("extra", "__pydantic_extra__"), ("private", "__pydantic_private__")):
        found = getattr(value, where, None)
        if found is not None:
            more[name] = {key: writer.at("." + key, item) for key, item in found.items()}
    writer.leave()
    return writer.tag("pydantic", fields, **more)


def _is_field(kind: Any, name: str) -> bool:
    return name in kind.model_fields


def read_pydantic(reader: Reader, tree: Any) -> Any:
    """Read the model, without its validators."""
    kind = reader.class_of(tree)
    described: Optional[Any] = getattr(kind, "model_fields", None)
    if not isinstance(described, dict) or not isinstance(tree["v"], dict):
        raise reader.damaged("a model of pydantic", name_of(kind))
    _same_fields(kind, tree["v"], described, described)
    made = kind.__new__(kind)
    object.__setattr__(made, "__dict__", {name: reader.read(item) for name, item in tree["v"].items()})
    object.__setattr__(made, "__pydantic_fields_set__", set(map(str, tree["set"])))
    for name, where in (("extra", "__pydantic_extra__"), ("private", "__pydantic_private__")):
        found = tree.get(name)
        here = None if found is None else {key: reader.read(item) for key, item in found.items()}
        object.__setattr__(made, where, here)
    return made
