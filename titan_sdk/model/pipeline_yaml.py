"""YAML nodes with their lines, for ``pipeline``. PyYAML is imported when a file is read."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from titan_sdk.errors import InvalidArgument, InvalidPipeline
from titan_sdk.model.durations import parse_duration

if TYPE_CHECKING:
    import yaml

__all__ = ["Entry", "Mapping", "Source"]

T = TypeVar("T")
D = TypeVar("D")

_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"
_KINDS = {"mapping": "a mapping", "sequence": "a list", "scalar": "a single value"}


class Source:
    """One YAML document."""

    def __init__(self, path: Path, loader: yaml.SafeLoader, root: yaml.Node) -> None:
        self.path = path
        self.loader = loader
        self.root = root

    @classmethod
    def read(cls, path: Path) -> Source:
        """Parse a file.

        Raises:
            InvalidPipeline: the file cannot be read, is empty, or is not YAML.
        """
        import yaml

        try:
            text = path.read_text(encoding="utf-8")
        except OSError as exc:
            raise InvalidPipeline(
                f"{path}: the pipeline file cannot be read ({exc.strerror or exc})"
            ) from exc
        except UnicodeDecodeError as exc:
            raise InvalidPipeline(f"{path}: the pipeline file is not UTF-8 text ({exc})") from exc
        try:
            loader = yaml.SafeLoader(text)
            root = loader.get_single_node()
        except yaml.YAMLError as exc:
            raise InvalidPipeline(
                f"{path}:{_line_of(exc, text)}: this is not YAML: {_problem_of(exc)}"
            ) from exc
        if root is None:
            raise InvalidPipeline(f"{path}:1: the file is empty; it needs a name and jobs")
        return cls(path, loader, root)

    def place(self, node: yaml.Node) -> str:
        """``file:line`` of a node."""
        return f"{self.path}:{node.start_mark.line + 1}"

    def mapping(
        self, node: yaml.Node, what: str, known: tuple[str, ...], other_names: dict[str, str] | None = None
    ) -> Mapping:
        """The entries of a mapping. Each key must be known, and may occur once.

        Args:
            other_names: the keys by their other names.

        Raises:
            InvalidPipeline: the node is not a mapping, or a key is unknown, or a key is there twice (its other name
                counts).
        """
        import yaml

        if not isinstance(node, yaml.MappingNode):
            raise InvalidPipeline(
                f"{self.place(node)}: {what} is {_kind(node)}, not a mapping of keys to values"
            )
        self._refuse_doubles(node)
        self.loader.flatten_mapping(node)
        entries: dict[str, Entry] = {}
        names = other_names or {}
        for key_node, value_node in node.value:
            key = names.get(str(key_node.value), key_node.value)
            if key not in known:
                near = difflib.get_close_matches(str(key), (*known, *names), 1)
                advice = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
                raise InvalidPipeline(f"{self.place(key_node)}: {what} has the unknown key {key!r}; {advice}")
            if key in entries and entries[key].key != key_node.value:
                raise InvalidPipeline(
                    f"{self.place(key_node)}: {what} has {key_node.value!r} and {entries[key].key!r}, which are two "
                    "names of one key; leave one out"
                )
            entries[key] = Entry(self, value_node, key_node.value)
        return Mapping(self, node, what, entries)

    def _refuse_doubles(self, node: yaml.MappingNode) -> None:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = str(key_node.value)
            if key in lines:
                raise InvalidPipeline(
                    f"{self.place(key_node)}: key {key!r} is there twice, first in line {lines[key]}"
                )
            lines[key] = key_node.start_mark.line + 1


class Mapping:
    """The entries of one mapping, by key."""

    def __init__(self, source: Source, node: yaml.Node, what: str, entries: dict[str, Entry]) -> None:
        self.place = source.place(node)
        self._what = what
        self._entries = entries

    def __contains__(self, key: str) -> bool:
        return key in self._entries and not self._entries[key].is_null

    def entry(self, key: str) -> Entry:
        """The entry; an error if it is missing."""
        if key not in self._entries:
            raise InvalidPipeline(f"{self.place}: {self._what} has no key {key!r}; add it")
        return self._entries[key]

    def get(self, key: str, read: Callable[[Entry], T], default: D) -> T | D:
        """The entry as ``read`` returns it; the default if the key is absent or has no value."""
        return read(self._entries[key]) if key in self else default


class Entry:
    """One value of the file. Each property reads it as one type, and refuses other types."""

    def __init__(self, source: Source, node: yaml.Node, key: str) -> None:
        self._source = source
        self.node = node
        self.key = key
        """The key in the file's spelling."""

    @property
    def place(self) -> str:
        return self._source.place(self.node)

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    @property
    def is_null(self) -> bool:
        return bool(self.node.tag == _NULL)

    def fail(self, problem: str) -> NoReturn:
        """Raise an error with file, line and key."""
        raise InvalidPipeline(f"{self.place}: key {self.key!r}: {problem}")

    def value(self) -> Any:
        """The value as YAML reads it."""
        import yaml

        try:
            return self._source.loader.construct_object(self.node, deep=True)
        except (yaml.YAMLError, ValueError) as exc:
            self.fail(f"cannot be read: {_problem_of(exc)}")

    def text(self) -> str:
        """A text. A number as a text needs quotes, because YAML would change the form of some numbers."""
        value = self._scalar()
        if not isinstance(value, str):
            self.fail(
                f"{self.node.value!r} is not a text; write it in quotes" if self.node.value else "is empty"
            )
        return value

    def words(self) -> str:
        """Any single value, exactly as it is written in the file."""
        self._scalar()
        return str(self.node.value)

    def words_or_list(self) -> str | list[str]:
        """A single value, or a list of single values, each as it is written."""
        if _kind(self.node) != "a list":
            return self.words()
        return [entry.words() for entry in self.items()]

    def words_by_name(self) -> dict[str, str]:
        """A mapping of single values, each as it is written."""
        if _kind(self.node) != "a mapping":
            self.fail(f"is {_kind(self.node)}, not a mapping of names to values")
        pairs = ((key.value, Entry(self._source, node, self.key)) for key, node in self.node.value)
        return {str(name): entry.words() for name, entry in pairs}

    def texts(self) -> list[str]:
        """A list of texts."""
        return [entry.text() for entry in self.items()]

    def items(self) -> list[Entry]:
        """The members of a list."""
        if _kind(self.node) != "a list":
            self.fail(f"is {_kind(self.node)}, not a list; put a dash in front of each member")
        return [Entry(self._source, node, self.key) for node in self.node.value]

    def whole(self) -> int:
        """A whole number."""
        value = self._scalar()
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(f"{self.node.value!r} is not a whole number")
        return value

    def seconds(self) -> float:
        """A duration in seconds; 0 is allowed."""
        value = self.duration()
        try:
            return parse_duration(value, "", zero=True)
        except InvalidArgument as exc:
            self.fail(str(exc).strip().replace(repr(value), repr(self.node.value), 1))

    def duration(self) -> Any:
        """A number, or a text such as ``10m``, which the caller checks."""
        value = self._scalar()
        if not isinstance(value, int | float | str) or isinstance(value, bool):
            self.fail(f"{self.node.value!r} is not a number, nor a text such as 10m, 1h30m or 500ms")
        return value

    def flag(self) -> bool:
        """``true`` or ``false``."""
        value = self._scalar()
        if not isinstance(value, bool):
            self.fail(f"{self.node.value!r} is neither true nor false")
        return value

    def flag_or_text(self) -> bool | str:
        """``true``, ``false`` or a text."""
        value = self._scalar()
        if not isinstance(value, bool | str):
            self.fail(f"{self.node.value!r} is neither true nor false, nor a text")
        return value

    def _scalar(self) -> Any:
        if _kind(self.node) != "a single value":
            self.fail(f"is {_kind(self.node)}, not a single value")
        return self.value()


def _kind(node: Any) -> str:
    # PyYAML's node classes have an ``id``, which is missing in its type stubs.
    return _KINDS[node.id]


def _line_of(exc: Exception, text: str) -> int:
    mark = getattr(exc, "problem_mark", None)
    if mark is not None:
        return int(mark.line) + 1
    # A character that YAML does not allow is reported by its position.
    return text.count("\n", 0, getattr(exc, "position", 0)) + 1


def _problem_of(exc: Exception) -> str:
    return str(getattr(exc, "problem", None) or getattr(exc, "reason", None) or exc)
