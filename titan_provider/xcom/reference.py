"""The reference that takes a stored value's place in Airflow's database, and the form of what is stored.

A reference is all that Airflow's UI and REST API show, so it is readable and self-contained. What is stored under
its key is the value's JSON text, ASCII only, so that a job on the cluster reads it with ``store_get`` and ``json``;
longer or compressed values lie in numbered parts under ``<key>:<i>``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from titan_provider.exceptions import TitanXComError

__all__ = ["MARK", "PART_CHARS", "Reference", "decode", "encode", "make_key"]

MARK = "titan_xcom"
# Titan's packet takes 10 MiB; below half of it, one part travels quickly and escaping cannot push it over.
PART_CHARS = 4 * 1024 * 1024
_MAX_KEY = 400


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a value is, and how to tell that it is whole."""

    key: str
    sha256: str
    """Of the value's JSON text."""
    bytes: int
    """Length of the value's JSON text."""
    preview: str
    encoding: str = "json"
    parts: int = 0
    """0: the whole text is under ``key`` itself."""

    @classmethod
    def from_json(cls, value: object) -> Reference | None:
        """The reference, or None when the value is not one of ours.

        :param value: what Airflow's database holds
        """
        if not isinstance(value, Mapping) or value.get(MARK) != 1:
            return None
        try:
            return cls(**{name: kind(value[name]) for name, kind in _FIELDS.items()})
        except (KeyError, TypeError, ValueError) as exc:
            raise TitanXComError(
                f"an XCom looks like a TitanStore reference, but cannot be read as one: {value}"
            ) from exc

    def to_json(self) -> dict[str, Any]:
        return {MARK: 1} | asdict(self)

    @property
    def part_keys(self) -> list[str]:
        """The store keys that hold the text, in order."""
        return [f"{self.key}:{i}" for i in range(self.parts)] or [self.key]


_FIELDS = {"key": str, "sha256": str, "bytes": int, "preview": str, "encoding": str, "parts": int}


def make_key(dag_id: str, run_id: str, task_id: str, map_index: int, key: str) -> str:
    """A store key that says whose value it is and is new for every write: a retry never overwrites what is read.

    :param key: the XCom's own key, such as ``return_value``
    """
    parts = [dag_id, run_id, task_id, str(map_index), key]
    unique = secrets.token_hex(6)
    path = "/".join(quote(part, safe="+:@.-_~") for part in parts)
    if len(path) > _MAX_KEY:
        path = f"{path[: _MAX_KEY - 65]}~{hashlib.sha256(path.encode()).hexdigest()}"
    return f"titan:xcom:{path}/{unique}"


def encode(key: str, text: str, *, compress: bool, preview: int) -> tuple[Reference, list[str]]:
    """The reference for a value and the pieces to store under its ``part_keys``.

    :param text: the value's JSON, ASCII only
    :param preview: how many characters of it the reference shows
    """
    raw = text.encode("ascii")
    stored = base64.b64encode(zlib.compress(raw, 6)).decode("ascii") if compress else text
    pieces = [stored[i : i + PART_CHARS] for i in range(0, len(stored), PART_CHARS)]
    reference = Reference(
        key=key,
        sha256=hashlib.sha256(raw).hexdigest(),
        bytes=len(raw),
        preview=text if len(text) <= preview else text[: max(preview - 3, 0)] + "..." if preview else "",
        encoding="json+zlib+base64" if compress else "json",
        parts=len(pieces) if len(pieces) > 1 else 0,
    )
    return reference, pieces


def decode(reference: Reference, stored: str) -> Any:
    """The value (still in Airflow's serialised form) behind the stored text.

    :raises TitanXComError: the text is not what the reference describes
    """
    try:
        raw = stored.encode("ascii")
        if reference.encoding == "json+zlib+base64":
            raw = zlib.decompress(base64.b64decode(raw, validate=True))
        elif reference.encoding != "json":
            raise ValueError(f"encoding {reference.encoding!r} is not known to this version")
        if len(raw) != reference.bytes or hashlib.sha256(raw).hexdigest() != reference.sha256:
            raise ValueError("length or checksum differ")
        return json.loads(raw)
    except (ValueError, zlib.error) as exc:
        raise TitanXComError(
            f"XCom {reference.key!r} in TitanStore is not the value that was stored there: {exc}; "
            "clear the task that pushed it"
        ) from exc
