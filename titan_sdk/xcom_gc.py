"""Garbage collection of XCom values in TitanStore. Airflow does not report the deletion of a DAG run or an XCom."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from titan_sdk.xcom import Reference, remove

if TYPE_CHECKING:
    from titan_sdk.client import TitanClient

__all__ = ["GRACE", "Garbage", "collect", "empty_referred", "find_garbage"]

GRACE = 3600.0
"""Seconds for which a value without a reference is kept: its task may be about to push the reference."""

_VALUE = re.compile(
    r"(?P<key>titan:xcom(?:-job)?:.+/(?P<time>[0-9a-f]{1,12})-[0-9a-f]{12})(?::\d+|:ref)?", re.S
)
_PLACES = "titan:xcom-at:"


@dataclass(frozen=True)
class Garbage:
    """A value that may be deleted."""

    key: str
    store_keys: tuple[str, ...]
    """All keys of the value."""
    age: float
    """Seconds since the write."""
    why: str


def find_garbage(
    client: TitanClient, *, referred: Collection[str] | None, older_than: float | None, now: float
) -> list[Garbage]:
    """The values without a reference in Airflow, and the values above an age; oldest first.

    Args:
        referred: the keys that Airflow's XComs refer to; ``None`` if they are not known.
        older_than: the age in seconds; ``None``: no limit.
        now: unix time.

    Raises:
        NotSupported: a real master cannot list its keys.
    """
    stored: dict[str, list[str]] = {}
    written: dict[str, int] = {}
    for prefix in ("titan:xcom:", "titan:xcom-job:"):
        for name in client.store_keys(prefix):
            if found := _VALUE.fullmatch(name):
                stored.setdefault(found["key"], []).append(name)
                written[found["key"]] = int(found["time"], 16)
    garbage = []
    for key, names in stored.items():
        age = now - written[key]
        if older_than is not None and age >= older_than:
            why = "old"
        elif referred is not None and key not in referred and age >= GRACE:
            why = "no XCom of Airflow refers to it"
        else:
            continue
        garbage.append(Garbage(key, tuple(sorted(names)), age, why))
    return sorted(garbage, key=lambda value: -value.age)


def collect(client: TitanClient, garbage: Collection[Garbage]) -> None:
    """Delete the values, and the places that point to them."""
    gone = {value.key for value in garbage}
    for place in client.store_keys(_PLACES):
        if _points_to(client.store_get(place)) in gone:
            client.store_delete(place)
    for value in garbage:
        for name in value.store_keys:
            client.store_delete(name)


def _points_to(text: str | None) -> str | None:
    try:
        found = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    return str(found.get("key")) if isinstance(found, Mapping) else None


def empty_referred(
    client: TitanClient, references: Collection[Reference], older_than: float, now: float, *, do: bool
) -> list[str]:
    """Overwrite old values that Airflow still refers to. A real master neither lists nor deletes keys, so this is all.

    Returns:
        the keys of the overwritten values.
    """
    keys = []
    for reference in references:
        found = _VALUE.fullmatch(reference.key)
        if found is None or now - int(found["time"], 16) < older_than:
            continue
        if client.store_get(reference.part_keys[0]):
            keys.append(reference.key)
            if do:
                remove(client, reference)
    return keys
