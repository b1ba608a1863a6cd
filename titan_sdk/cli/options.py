"""The options of ``titan up`` that are settings of the master: one for each setting that has a flag."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, cast, get_args, get_type_hints

import typer

from titan_sdk.cluster.engines.ray.resources import parse_resources
from titan_sdk.cluster.engines.ray.settings import parse_advertised
from titan_sdk.cluster.settings_fields import Setting, settings_of
from titan_sdk.errors import InvalidArgument

__all__ = ["parameters", "parse_workers", "read", "with_options"]

F = TypeVar("F", bound=Callable[..., None])

_LISTS = {"workers": "TAG=N,...", "tag_resources": "TAG=NAME:N,..."}
"""The repeatable options, with their value names."""


def parameters(of: type) -> list[inspect.Parameter]:
    """The options for one dataclass of settings, in its order."""
    hints = get_type_hints(of)
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(each.name, setting, default),
            annotation=Annotated[
                _kind(each.name, hints[each.name], setting), _option(each.name, setting, default)
            ],
        )
        for each, setting, default in settings_of(of)
        if setting.flag is not None
    ]


def with_options(function: F, options: list[inspect.Parameter]) -> F:
    """The function with these options instead of its ``**options``, before its own parameters."""
    signature = inspect.signature(function, eval_str=True)
    session, *own = (each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD)

    @functools.wraps(function)
    def taking(*args: Any, **given: Any) -> None:
        function(*args, **given)

    taking.__signature__ = signature.replace(parameters=[session, *options, *own])  # type: ignore[attr-defined]
    return cast(F, taking)


def read(of: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of these options, by name. Errors name the options.

    Raises:
        InvalidArgument: an option's value is invalid or out of bounds.
    """
    found: dict[str, Any] = {}
    for each, setting, default in settings_of(of):
        if setting.flag is None:
            continue
        value = given[each.name]
        if value == _default(each.name, setting, default):
            found[each.name] = default
        elif each.name in _PARSERS:
            found[each.name] = _PARSERS[each.name](value)
        elif isinstance(value, float | int) and not isinstance(value, bool):
            found[each.name] = _number(setting, value)
        else:
            found[each.name] = value
    return found


def parse_workers(texts: list[str]) -> dict[str, int]:
    """The workers per tag in ``GENERAL=2,GPU=1``; a tag alone means one worker.

    Raises:
        InvalidArgument: a part is not such a pair, or a tag is given twice.
    """
    counts: dict[str, int] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        tag, equals, count = part.partition("=")
        tag, count = tag.strip(), count.strip() if equals else "1"
        if not tag or not (count.isascii() and count.isdigit()) or tag in counts:
            raise InvalidArgument(
                f"--workers: {part!r} is not TAG=NUMBER, each tag once, such as GENERAL=2,GPU=1"
            )
        if found := re.search(r"[\s:;|/]", tag):
            meant = re.sub(r"[\s:]+(?=\d+$)", "=", tag)
            hint = f"; did you mean {meant}?" if meant != tag else ""
            raise InvalidArgument(f"--workers: a tag cannot hold {found[0]!r} ({part!r}){hint}")
        counts[tag] = int(count)
    return counts


def _devices(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "workers": parse_workers,
    "gpus": _devices,
    "tag_resources": parse_resources,
    "advertise": parse_advertised,
}


def _number(setting: Setting, value: float) -> float | None:
    if setting.never and value == 0:
        return None
    inside = value * setting.per_unit
    setting.check(str(setting.flag), inside, setting.per_unit)
    return inside


def _default(name: str, setting: Setting, default: Any) -> Any:
    """The default of the option, in its own unit."""
    if name in _PARSERS:
        return None
    if default is not None and setting.unit is not None:
        return type(default)(default / setting.per_unit)
    return default


def _kind(name: str, hint: Any, setting: Setting) -> Any:
    """The type of the option for typer."""
    if name in _LISTS:
        return list[str] | None
    if name in _PARSERS:
        return str | None
    if setting.never:
        return next(kind for kind in get_args(hint) if kind is not type(None))
    return hint


def _option(name: str, setting: Setting, default: Any) -> Any:
    text = setting.text
    if setting.unit is not None:
        text += f" In {setting.unit}."
    if name == "workers":
        text += " Default: " + ",".join(f"{tag}={count}" for tag, count in default.items()) + "."
    return typer.Option(
        setting.flag,
        metavar=_LISTS.get(name),
        rich_help_panel=setting.section,
        envvar=setting.variable,
        help=text + (" Repeatable." if name in _LISTS else ""),
        show_default=default is not None and name not in _PARSERS,
        show_envvar=setting.variable is not None,
    )
