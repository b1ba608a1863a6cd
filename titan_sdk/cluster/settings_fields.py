"""The definition of a setting: default, meaning, bounds, and the option of `titan up`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from titan_sdk.errors import InvalidArgument

__all__ = ["MIB", "Setting", "check_bounds", "setting", "settings_of"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """The properties of a setting besides its type and default."""

    text: str
    """The meaning, for readers of `titan up --help` and for users of Python."""
    flag: str | None = None
    """The option of `titan up`. ``None``: it is set in Python only, or its option sets more than this value."""
    section: str | None = None
    """The heading in the help."""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    never: bool = False
    """Whether it may be ``None``, which is 0 as an option."""
    unit: str | None = None
    """The unit of the option, if it differs from the setting's."""
    per_unit: float = 1
    """The factor from the option's unit to the setting's."""
    variable: str | None = None
    """The environment variable that replaces the option."""

    def check(self, name: str, value: Any, per_unit: float = 1) -> None:
        """Refuse a number outside the bounds.

        Args:
            name: the setting's name in the error.
            value: in the setting's unit.
            per_unit: the factor from the error's unit to the setting's.

        Raises:
            InvalidArgument: the sentence names the bounds.
        """
        if value is None or (self.least is self.most is self.above is None):
            return
        low = -float("inf") if self.least is None else self.least
        high = float("inf") if self.most is None else self.most
        if low <= value <= high and (self.above is None or value > self.above):
            return
        if self.above is not None:
            bounds = f"more than {self.above:g}"
        else:
            bounds = f"{-(-low // per_unit):g}" + (" or more" if self.most is None else f" to {high:g}")
        zero = "0" if self.flag is not None and name.startswith("--") else "None"
        raise InvalidArgument(
            f"{name} {value / per_unit:g}: give {bounds}" + (f", or {zero} for never" if self.never else "")
        )


def setting(default: Any, text: str, flag: str | None = None, **more: Any) -> Any:
    """A field of a settings dataclass.

    Args:
        default: its value, a function that makes it, or ``MISSING`` where it must be given.
        text: see ``Setting.text``.
        flag: see ``Setting.flag``.
        more: the other fields of ``Setting``.
    """
    metadata = {"setting": Setting(text, flag, **more)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def settings_of(of: type) -> Iterator[tuple[Field[Any], Setting, Any]]:
    """The settings of a dataclass, each with its field and its default."""
    for each in fields(of):
        made = each.default_factory() if each.default_factory is not MISSING else each.default
        yield each, each.metadata["setting"], made


def check_bounds(given: Any) -> None:
    """Refuse what is not a number where a setting is one, and numbers that are out of its bounds.

    Raises:
        InvalidArgument: the sentence names setting and bounds.
    """
    for each in fields(given):
        value = getattr(given, each.name)
        kind, _, or_none = str(each.type).partition(" | ")
        if kind in _NUMBERS and not (or_none and value is None):
            wanted, words = _NUMBERS[kind]
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise InvalidArgument(f"{each.name} {value!r} is not {words}")
        each.metadata["setting"].check(each.name, value)


_NUMBERS: dict[str, tuple[type, str]] = {"int": (Integral, "a whole number"), "float": (Real, "a number")}
"""What the type of a field asks of its value."""
