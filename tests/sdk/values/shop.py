"""Classes that values are of, in a module that another process can import."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple


class Colour(enum.Enum):
    RED = (255, 0, 0)
    BLUE = (0, 0, 255)


class Size(str, enum.Enum):  # noqa: UP042 - as many have it
    SMALL = "s"


class Level(enum.IntEnum):
    HIGH = 3


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True)
class Item:
    name: Any
    colour: Any = Colour.RED
    made: int = field(init=False, default=7)

    def __post_init__(self) -> None:
        if isinstance(self.name, str) and self.name == "never called while reading":
            raise AssertionError

    @cached_property
    def length(self) -> int:
        return 4


@dataclass
class Slotted:
    __slots__ = ("a", "b")
    a: Any
    b: Any


class Stranger:
    """A class that nothing here can carry."""
