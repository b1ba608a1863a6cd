"""From a value to its JSON form. A part that cannot be carried is refused with its place, before anything is sent."""

from __future__ import annotations

import sys

from . import classes, frames, moments, numbers
from .classes import shown
from .errors import Refused
from .standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

__all__ = ["MARK", "Envelope", "Writer", "dump", "is_envelope"]

MARK = "titan_value"
DEEPEST = 200
MOST_VALUES = 1 << 25
"""The number of values that fit into the largest text of a job."""
LARGE = 10**4000
"""From here on, integers are written in hexadecimal, because Python limits the digits of decimals."""


class Envelope(dict):  # type: ignore[type-arg]
    """A value in its JSON form. Inside another value it is written as the value that it represents."""


def is_envelope(value: Any) -> bool:
    """Whether a value is an envelope, as `dump` makes it."""
    return isinstance(value, dict) and len(value) == 2 and MARK in value and "value" in value


def dump(
    root: Any,
    where: str = "value",
    also: Optional[Callable[[Any], Any]] = None,
    serializer: str = "json",
) -> Any:
    """The JSON form of a value: the value itself if JSON can hold it, otherwise an Envelope.

    Args:
        where: the name of the value in an error.
        also: called with an object of an unknown type. It returns a value in its place, or NotImplemented.
        serializer: ``cloudpickle`` writes the whole value as one pickle, with the version of Python that can read it.

    Raises:
        Refused: a part of the value cannot be carried, contains itself, or is nested more than 200 deep.
    """
    if serializer != "json":
        return Envelope({MARK: 1, "value": _pickled(root, where, serializer)})
    if isinstance(root, Envelope):
        return root
    writer = Writer(where, also)
    try:
        tree = writer.write(root)
    except RecursionError:
        raise writer.refused("is nested too deep for the stack that is left") from None
    if not writer.typed and not is_envelope(root):
        return root if writer.has_dollar else tree
    return Envelope({MARK: 1, "value": tree})


def _pickled(root: Any, where: str, serializer: str) -> Any:
    if serializer != "cloudpickle":
        raise Refused("%s: the serializer is 'json' or 'cloudpickle', not %r" % (where, serializer))
    try:
        __import__("cloudpickle")
        data = sys.modules["cloudpickle"].dumps(root, 4)
    except ImportError as exc:
        raise Refused("%s needs cloudpickle, which is not installed here (%s)" % (where, exc)) from exc
    except Exception as exc:
        raise Refused("%s cannot be pickled: %s: %s" % (where, type(exc).__name__, exc)) from exc
    text = str(standard("binascii").b2a_base64(data, newline=False), "ascii")
    return {"$": "pickle", "python": "%d.%d" % sys.version_info[:2], "v": text}


class Writer:
    """Writes one value, and keeps track of the place inside it."""

    def __init__(self, where: str, also: Optional[Callable[[Any], Any]] = None) -> None:
        self.where = where
        self.typed = False
        """Whether a part of the value needs an envelope."""
        self.has_dollar = False
        self._also = also
        self._path: List[str] = []
        self._above: List[int] = []
        self._count = 0

    def write(self, value: Any) -> Any:
        """The tree of a value."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return value if value.isascii() else self._text(value)
        if kind is int:
            return value if -LARGE < value < LARGE else self.tag("int", hex(value))
        if kind is float:
            return self._float(value)
        self._count += 1
        if self._count > MOST_VALUES:
            raise Refused("%s has more than %d values; send a file instead" % (self.where, MOST_VALUES))
        write = _WRITERS.get(kind)
        if write is None:
            write = _find(kind)
            if write is None:
                return self._other(value)
            _WRITERS[kind] = write
        return write(self, value)

    def tag(self, kind: str, v: Any, /, **fields: Any) -> Dict[str, Any]:
        """The object with ``$`` for a value that JSON cannot hold."""
        self.typed = True
        return {"$": kind, "v": v, **fields}

    def at(self, step: str, value: Any) -> Any:
        """The tree of a part of the value. The step to it is a text such as ``[2]`` or ``.name``."""
        self._path.append(step)
        tree = self.write(value)
        self._path.pop()
        return tree

    def items(self, values: Iterable[Any]) -> List[Any]:
        """The trees of a sequence's members."""
        out = []
        path = self._path
        for index, item in enumerate(values):
            path.append("[%d]" % index)
            out.append(self.write(item))
            path.pop()
        return out

    def buffer(self, data: Any) -> str:
        """The BUFFER of bytes."""
        return str(standard("binascii").b2a_base64(data, newline=False), "ascii")

    def place(self) -> str:
        """The present place inside the whole value."""
        text = self.where + "".join(self._path[:20])
        return text if len(self._path) <= 20 else text + "..."

    def refused(self, problem: str) -> Refused:
        """The refusal of the value at this place."""
        return Refused("%s %s" % (self.place(), problem))

    def enter(self, value: Any) -> None:
        """Enter a container."""
        if id(value) in self._above:
            raise self.refused("contains itself")
        if len(self._above) >= DEEPEST:
            raise self.refused("is nested more than %d deep" % DEEPEST)
        self._above.append(id(value))

    def leave(self) -> None:
        """Leave the container."""
        self._above.pop()

    def _text(self, value: str) -> Any:
        high = False
        if value.isprintable():  # no surrogates
            return value
        for character in value:
            if high and "\udc00" <= character <= "\udfff":
                return self.tag("str", self.buffer(value.encode("utf-8", "surrogatepass")))
            high = "\ud800" <= character <= "\udbff"
        return value

    def _float(self, value: float) -> Any:
        if value - value == 0:
            return value
        return self.tag("float", "nan" if value != value else "inf" if value > 0 else "-inf")

    def _other(self, value: Any) -> Any:
        if self._also is not None:
            instead = self._also(value)
            if instead is not NotImplemented:
                self.enter(value)
                tree = self.write(instead)
                self.leave()
                return tree
        raise self.refused(
            "is of type %s, which cannot be carried; convert it first, or choose serializer='cloudpickle'"
            % classes.name_of(type(value))
        )

    # -- the kinds -------------------------------------------------------------------------------------------

    def _list(self, value: Any) -> Any:
        self.enter(value)
        out = self.items(value)
        self.leave()
        return out

    def _tuple(self, value: Any) -> Any:
        return self.tag("tuple", self._list(value))

    def _set(self, value: Any) -> Any:
        self.enter(value)
        self._path.append("{a member}")
        members = [self.write(member) for member in value]
        self._path.pop()
        self.leave()
        # Sorted, so that equal sets give equal texts.
        members.sort(key=lambda member: str(standard("json").dumps(member, sort_keys=True)))
        return self.tag("frozenset" if isinstance(value, frozenset) else "set", members)

    def _dict(self, value: Any) -> Any:
        self.enter(value)
        as_object = all(isinstance(key, str) and _is_plain_key(key) for key in value)
        out: Any
        if as_object and "$" not in value:
            out = {}
            for key, item in value.items():
                out[str.__str__(key)] = self.at("[%s]" % shown(key), item)
            if len(out) != len(value):
                raise self.refused("has several keys of one text")
        else:
            out = []
            self.has_dollar = self.has_dollar or as_object
            for key, item in value.items():
                name = shown(key)
                out.append([self.at("{the key %s}" % name, key), self.at("[%s]" % name, item)])
            out = {"$": "dict", "v": out}
            self.typed = self.typed or not as_object
        self.leave()
        return out

    def _bytes(self, value: Any) -> Any:
        return self.tag("bytearray" if isinstance(value, bytearray) else "bytes", self.buffer(value))

    def _envelope(self, value: Any) -> Any:
        tree = value["value"]
        if isinstance(tree, dict) and tree.get("$") == "pickle":
            raise self.refused("is pickled, and can go on only by serializer='cloudpickle'")
        self.typed = True
        return value["value"]

    def _path_of(self, value: Any) -> Any:
        pathlib = standard("pathlib")
        kind = "PureWindowsPath" if isinstance(value, pathlib.PureWindowsPath) else "PurePosixPath"
        return self.tag("path", str(value), kind="Path" if isinstance(value, pathlib.Path) else kind)


def _is_plain_key(key: str) -> bool:
    if type(key) is str:
        return key.isascii() or key.isprintable() or not any("\ud800" <= c <= "\udfff" for c in key)
    # A member of an enumeration keeps its type. Any other subclass becomes its text.
    return _find(type(key)) is _PLAIN_TEXT


def _plain(base: Any) -> Callable[[Writer, Any], Any]:
    return lambda writer, value: writer.write(base(value))


_PLAIN_TEXT = _plain(str.__str__)


def _find(kind: type) -> Optional[Callable[[Writer, Any], Any]]:
    """The function that writes a type. It is found by the names of the type's bases, so that nothing is imported."""
    if issubclass(kind, Envelope):
        return Writer._envelope
    bases = {(base.__module__.partition(".")[0], base.__qualname__) for base in kind.__mro__}
    for root, names, write in _NAMED:
        if any((root, name) in bases for name in names):
            return write
    if hasattr(kind, "__dataclass_fields__"):
        return classes.write_dataclass
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return classes.write_namedtuple
    for base, write in _BUILTIN:
        if issubclass(kind, base):
            return write
    return None


_NAMED: List[Tuple[str, Tuple[str, ...], Callable[[Writer, Any], Any]]] = [
    ("enum", ("Enum",), classes.write_enum),
    ("pydantic", ("BaseModel",), classes.write_pydantic),
    ("pandas", ("Timestamp", "Timedelta", "NaTType", "NAType"), frames.write_scalar),
    ("pandas", ("DataFrame",), frames.write_frame),
    ("pandas", ("Series",), frames.write_series),
    ("pandas", ("Index",), frames.write_index),
    ("polars", ("DataFrame", "Series"), frames.write_polars),
    ("numpy", ("ndarray",), numbers.write_array),
    ("numpy", ("generic",), numbers.write_scalar),
    ("datetime", ("datetime",), moments.write_datetime),
    ("datetime", ("date",), moments.write_date),
    ("datetime", ("time",), moments.write_time),
    ("datetime", ("timedelta",), moments.write_timedelta),
    ("decimal", ("Decimal",), moments.write_decimal),
    ("uuid", ("UUID",), moments.write_uuid),
    ("pathlib", ("PurePath",), Writer._path_of),
]
_BUILTIN: List[Tuple[Any, Callable[[Writer, Any], Any]]] = [
    (str, _PLAIN_TEXT),
    (int, _plain(int.__int__)),
    (float, _plain(float.__float__)),
    (dict, Writer._dict),
    (list, Writer._list),
    (tuple, Writer._tuple),
    ((set, frozenset), Writer._set),
    ((bytes, bytearray), Writer._bytes),
]
_WRITERS: Dict[type, Callable[[Writer, Any], Any]] = {}
