"""Which XCom values in TitanStore nobody needs any more. Airflow never tells when it deletes a DAG run or an XCom."""

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
"""Seconds for which a value is left alone although nobody refers to it: its task may be about to say that it exists."""

_VALUE = re.compile(
    r"(?P<key>titan:xcom(?:-job)?:.+/(?P<time>[0-9a-f]{1,12})-[0-9a-f]{12})(?::\d+|:ref)?", re.S
)
_PLACES = "titan:xcom-at:"


@dataclass(frozen=True)
class Garbage:
    """One value that may go."""

    key: str
    store_keys: tuple[str, ...]
    """Everything stored for it."""
    age: float
    """Seconds since it was written."""
    why: str


def find_garbage(
    client: TitanClient, *, referred: Collection[str] | None, older_than: float | None, now: float
) -> list[Garbage]:
    """Values that Airflow does not refer to, and values over an age; oldest first.

    Args:
        referred: keys that Airflow's XComs refer to; ``None`` where that is not known.
        older_than: seconds; ``None`` for no limit of age.
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
    """All that can be done on a master that neither lists nor deletes: overwrite old values that Airflow still knows.

    Returns:
        their keys.
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
