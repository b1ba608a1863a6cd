"""From the JSON form back to the value. A class or module named in the data is imported only if the reader allows it."""

from __future__ import annotations

import sys

from . import classes, frames, moments, numbers
from .errors import NotAllowed, Unreadable
from .standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, List

__all__ = ["Reader", "load"]

DEEPEST = 200
VERSION = 1


def load(
    found: Any,
    allowed_classes: Iterable[Any] = (),
    where: str = "value",
    setting: str = "",
    serializer: str = "json",
) -> Any:
    """The value of a JSON form. Anything but an envelope is its own value.

    Args:
        allowed_classes: the classes that objects may have, or their names as ``module.Class``, in which ``*`` matches
            anything.
        where: the name of the value in an error.
        serializer: ``cloudpickle`` also accepts pickles, which run the code in them.
        setting: the way to allow a class, for the error's sentence.

    Raises:
        NotAllowed: the value has an object of another class. Nothing was imported.
        Unreadable: the value is damaged, of a later version, or needs a package that is not installed.
    """
    if not (isinstance(found, dict) and len(found) == 2 and "titan_value" in found and "value" in found):
        return found
    if found["titan_value"] != VERSION:
        raise Unreadable(
            "%s is written in version %.20r of this format; this one reads version %d: upgrade it"
            % (where, found["titan_value"], VERSION)
        )
    tree = found["value"]
    if isinstance(tree, dict) and tree.get("$") == "pickle":
        return _unpickled(tree, where, serializer)
    reader = Reader(allowed_classes, where, setting or "pass allowed_classes=")
    try:
        return reader.read(tree)
    except Unreadable:
        raise
    except RecursionError:
        raise Unreadable("%s is nested too deep" % where) from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, MemoryError) as exc:
        raise Unreadable(
            "%s is damaged: %s (%s)" % (where, str(exc)[:200] or "a part is missing", type(exc).__name__)
        ) from exc


def _unpickled(tree: Any, where: str, serializer: str) -> Any:
    if serializer != "cloudpickle":
        raise Unreadable(
            "%s is pickled, and a pickle can run anything; where you trust its sender, pass serializer='cloudpickle'"
            % where
        )
    here = "%d.%d" % sys.version_info[:2]
    if tree.get("python") != here:
        raise Unreadable(
            "%s was pickled by Python %.20s, and this is %s; cloudpickle needs the same version on both ends"
            % (where, tree.get("python"), here)
        )
    data = Reader((), where, "").buffer(tree.get("v"))
    try:
        return standard("pickle").loads(data)
    except Exception as exc:
        raise Unreadable("%s cannot be unpickled: %s: %s" % (where, type(exc).__name__, exc)) from exc


class Reader:
    """Reads one tree."""

    def __init__(self, allowed: Iterable[Any], where: str, setting: str) -> None:
        self.where = where
        self.setting = setting
        self._allowed = list(allowed)
        self._depth = 0

    def read(self, tree: Any) -> Any:
        """The value of a tree."""
        if isinstance(tree, list):
            return self.items(tree)
        if not isinstance(tree, dict):
            return tree
        if "$" in tree:
            kind = tree["$"]
            read = _READERS.get(kind) if isinstance(kind, str) else None
            if read is None:
                raise Unreadable("%s holds a %.80r, which this version cannot read" % (self.where, kind))
            self._descend()
            value = read(self, tree)
            self._depth -= 1
            return value
        self._descend()
        found = {key: self.read(item) for key, item in tree.items()}
        self._depth -= 1
        return found

    def items(self, trees: Any) -> List[Any]:
        """The values of an array."""
        if not isinstance(trees, list):
            raise self.damaged("an array", trees)
        self._descend()
        found = [self.read(item) for item in trees]
        self._depth -= 1
        return found

    def text(self, tree: Any, name: str = "v") -> str:
        """A field that must be a text."""
        found = tree[name]
        if not isinstance(found, str):
            raise self.damaged("a text", found)
        return found

    def whole(self, found: Any) -> int:
        """A value that must be a whole number."""
        if type(found) is not int:
            raise self.damaged("a whole number", found)
        return found

    def buffer(self, found: Any, size: int = -1) -> bytes:
        """The bytes of a buffer.

        Args:
            size: the number of bytes that follows from the other fields. It is checked before memory is allocated.
        """
        if not isinstance(found, str) or len(found) % 4:
            raise self.damaged("base64", found)
        here = len(found) // 4 * 3 - (2 if found.endswith("==") else 1 if found.endswith("=") else 0)
        if size >= 0 and here != size:
            raise Unreadable("%s is damaged: it declares %d bytes and holds %d" % (self.where, size, here))
        data: bytes = standard("binascii").a2b_base64(found)
        if len(data) != here:
            raise self.damaged("base64", found)
        return data

    def damaged(self, wanted: str, found: Any) -> Unreadable:
        """The error for a part of another type than the format has there."""
        return Unreadable("%s is damaged: it has %.80r where %s belongs" % (self.where, found, wanted))

    def class_of(self, tree: Any) -> Any:
        """The class that a tree names, if the reader has allowed it."""
        name = self.text(tree, "class").replace(":", ".")
        found = classes.allowed(name, self._allowed)
        if found is None:
            raise NotAllowed(
                "%s holds an object of the class %s, which is not allowed here; to read it, %s"
                % (self.where, name[:200], self.setting.replace("CLASS", name[:200])),
                name,
            )
        return classes.find(self.text(tree, "class"), found)

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > 2 * DEEPEST + 10:
            raise Unreadable("%s is nested more than %d deep" % (self.where, DEEPEST))

    # -- the kinds -------------------------------------------------------------------------------------------

    def _int(self, tree: Any) -> int:
        return int(self.text(tree), 16)

    def _float(self, tree: Any) -> float:
        return {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")}[self.text(tree)]

    def _str(self, tree: Any) -> str:
        return self.buffer(tree["v"]).decode("utf-8", "surrogatepass")

    def _dict(self, tree: Any) -> Dict[Any, Any]:
        pairs = tree["v"]
        if not isinstance(pairs, list):
            raise self.damaged("an array", pairs)
        return {self.read(key): self.read(item) for key, item in pairs}

    def _path(self, tree: Any) -> Any:
        kind = self.text(tree, "kind")
        if kind not in ("Path", "PurePosixPath", "PureWindowsPath"):
            raise self.damaged("a kind of path", kind)
        return getattr(standard("pathlib"), kind)(self.text(tree))


_READERS: Dict[str, Callable[[Reader, Any], Any]] = {
    "int": Reader._int,
    "float": Reader._float,
    "str": Reader._str,
    "bytes": lambda reader, tree: reader.buffer(tree["v"]),
    "bytearray": lambda reader, tree: bytearray(reader.buffer(tree["v"])),
    "tuple": lambda reader, tree: tuple(reader.items(tree["v"])),
    "set": lambda reader, tree: set(reader.items(tree["v"])),
    "frozenset": lambda reader, tree: frozenset(reader.items(tree["v"])),
    "dict": Reader._dict,
    "path": Reader._path,
    "datetime": moments.read_datetime,
    "date": moments.read_date,
    "time": moments.read_time,
    "timedelta": moments.read_timedelta,
    "decimal": moments.read_decimal,
    "uuid": moments.read_uuid,
    "enum": classes.read_enum,
    "namedtuple": classes.read_namedtuple,
    "dataclass": classes.read_dataclass,
    "pydantic": classes.read_pydantic,
    "numpy.scalar": numbers.read_scalar,
    "numpy.array": numbers.read_array,
    "pandas.DataFrame": frames.read_frame,
    "pandas.Series": frames.read_series,
    "pandas.Index": frames.read_index,
    "pandas.Timestamp": frames.read_scalar,
    "pandas.Timedelta": frames.read_scalar,
    "pandas.NaT": frames.read_scalar,
    "pandas.NA": frames.read_scalar,
    "polars.DataFrame": frames.read_polars,
    "polars.Series": frames.read_polars,
}
