"""Airflow's XComs in TitanStore: their stored form, and the functions by which jobs on the cluster read and write them.

Airflow's database holds a reference in place of the value. Airflow's UI and REST API show only this reference, so it is
readable and self-contained. The store holds the value's JSON text under the reference's key. It is ASCII, so a job can
read it with ``store_get`` and ``json``. Longer and compressed values are in numbered parts under ``<key>:<i>``. An empty
text under the key means that the value was removed. ``titan:xcom-at:<dag>/<run>/<task>/<map index>/<xcom key>`` holds
the latest reference of that XCom. :class:`TaskCoordinate` makes these keys.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from titan_sdk import values
from titan_sdk.errors import CorruptData, InvalidArgument, NotFound
from titan_sdk.model.rules import full_id

if TYPE_CHECKING:
    from titan_sdk.client import TitanClient

__all__ = [
    "MARK",
    "PART_CHARS",
    "Reference",
    "TaskCoordinate",
    "belongs_to",
    "decode",
    "encode",
    "fetch",
    "make_key",
    "place_key",
    "read_xcom",
    "remove",
    "store",
    "value_of",
    "was_written_by_a_job",
    "write_xcom",
]

MARK = "titan_xcom"
# Titan's packet takes 10 MiB. A part of less than half of it travels quickly, and escaping cannot make it too large.
PART_CHARS = 4 * 1024 * 1024
# A reference to a larger value is forged, because such a value fits into no memory.
_MAX_BYTES = 16 * 1024**3
_MAX_KEY = 400
_JOB_PREFIX = "titan:xcom-job:"
_UNIQUE = r"[0-9a-f]{1,12}-[0-9a-f]{12}"
_KEY = re.compile(rf"titan:xcom(?:-job)?:[ -~]{{1,{_MAX_KEY}}}/{_UNIQUE}")
_JSON, _ZLIB = "json", "json+zlib+base64"


@dataclass(frozen=True, slots=True)
class Reference:
    """The place of a value, with its length and checksum."""

    key: str
    sha256: str
    """Of the value's JSON text."""
    bytes: int
    """Length of the value's JSON text."""
    preview: str
    encoding: str = _JSON
    parts: int = 0
    """0: the whole text is under ``key`` itself."""

    @classmethod
    def from_json(cls, value: object) -> Reference | None:
        """The reference, or None if the value is not one of ours.

        Args:
            value: the value in Airflow's database.

        Raises:
            CorruptData: the value has our mark, but this package never makes such a reference.
        """
        if not isinstance(value, Mapping) or value.get(MARK) != 1:
            return None
        wrong = next((name for name, kind in _FIELDS.items() if type(value.get(name)) is not kind), None)
        if wrong is None:
            reference = cls(**{name: value[name] for name in _FIELDS})
            wrong = reference._implausible()
            if wrong is None:
                return reference
        raise CorruptData(
            f"an XCom looks like a TitanStore reference, but cannot be read as one: its {wrong!r} is not of the kind "
            f"that this package writes: {str(value)[:300]}"
        )

    def _implausible(self) -> str | None:
        """A field that would lead a reader to a foreign key, or to more data than was ever stored."""
        if not _KEY.fullmatch(self.key):
            return "key"
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            return "sha256"
        if not 0 <= self.bytes <= _MAX_BYTES:
            return "bytes"
        if self.encoding not in (_JSON, _ZLIB):
            return "encoding"
        return None if 0 <= self.parts <= -(-self.most_chars // PART_CHARS) else "parts"

    @property
    def most_chars(self) -> int:
        """The greatest possible length of the stored text."""
        if self.encoding == _JSON:
            return self.bytes
        compressed = self.bytes + self.bytes // 1000 + 64  # the size of data that cannot be compressed
        return 4 * -(-compressed // 3)

    def to_json(self) -> dict[str, Any]:
        return {MARK: 1} | asdict(self)

    @property
    def part_keys(self) -> list[str]:
        """The store keys that hold the text, in order."""
        return [f"{self.key}:{i}" for i in range(self.parts)] or [self.key]


_FIELDS = {"key": str, "sha256": str, "bytes": int, "preview": str, "encoding": str, "parts": int}


@dataclass(frozen=True, slots=True)
class TaskCoordinate:
    """One instance of a task in one run of its DAG. It makes all keys of the task in TitanStore.

    Args:
        map_index: -1 for a task that is not mapped.
        region: id of the Airflow region (3.4 and later) in which the other names are unique. ``None``, or a UUID of
            zeros, means no region.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    region: str | None = None

    def __post_init__(self) -> None:
        if self.region is not None:
            text = str(self.region)
            object.__setattr__(self, "region", text if text.strip("0-") else None)

    @classmethod
    def of(cls, instance: Any) -> TaskCoordinate:
        """The coordinate of an object with the attributes of Airflow's task instances.

        Args:
            instance: its ``map_index`` may be ``None``, and its ``region_id`` may be missing.
        """
        map_index = getattr(instance, "map_index", None)
        return cls(
            instance.dag_id,
            instance.run_id,
            instance.task_id,
            -1 if map_index is None else int(map_index),
            getattr(instance, "region_id", None),
        )

    def new_xcom_key(self, key: str) -> str:
        """A store key that names the XCom and is new for every write, so that a retry never overwrites a value in use.

        It ends with the time of the write, in hexadecimal seconds, and a random part.

        Args:
            key: the XCom's own key, such as ``return_value``.
        """
        return f"titan:xcom:{self._path(key)}/{_unique()}"

    def xcom_place(self, key: str) -> str:
        """The key that holds the latest reference of that XCom."""
        return f"titan:xcom-at:{self._path(key)}"

    def owns(self, reference: Reference, key: str) -> bool:
        """Whether the value was stored for that XCom: whether ``new_xcom_key`` of this coordinate made its key."""
        own = f"titan:xcom:{self._path(key)}/"
        return reference.key.startswith(own) and bool(re.fullmatch(_UNIQUE, reference.key[len(own) :]))

    @property
    def checkpoint_key(self) -> str:
        """The ``checkpoint_key`` that the tries of the task share."""
        return f"airflow/{self._path('')}"

    def record_key(self, deployment: str) -> str:
        """The key of the record of the task's jobs, for versions of Airflow without a store for it.

        Args:
            deployment: tells this Airflow from another one on the same master.
        """
        names = [deployment, self.dag_id, self.run_id, self.task_id, str(self.map_index)]
        if self.region is not None:
            names.append(self.region)
        return f"titan:airflow:task:{hashlib.sha256(chr(0).join(names).encode()).hexdigest()[:40]}"

    def _path(self, key: str) -> str:
        parts = (self.dag_id, self.run_id, self.task_id, str(self.map_index), key)
        path = "/".join(quote(part, safe="+:@.-_~") for part in parts)
        if self.region is not None:
            # No DAG's name can begin like this, because its "=" would be quoted.
            path = f"region={quote(self.region, safe='-')}/{path}"
        if len(path) > _MAX_KEY:
            path = f"{path[: _MAX_KEY - 65]}~{hashlib.sha256(path.encode()).hexdigest()}"
        return path


def make_key(dag_id: str, run_id: str, task_id: str, map_index: int, key: str) -> str:
    """``TaskCoordinate.new_xcom_key`` of a task without a region."""
    return TaskCoordinate(dag_id, run_id, task_id, map_index).new_xcom_key(key)


def place_key(dag_id: str, run_id: str, task_id: str, map_index: int, key: str) -> str:
    """``TaskCoordinate.xcom_place`` of a task without a region."""
    return TaskCoordinate(dag_id, run_id, task_id, map_index).xcom_place(key)


def belongs_to(
    reference: Reference, dag_id: str, run_id: str, task_id: str, map_index: int, key: str
) -> bool:
    """``TaskCoordinate.owns`` of a task without a region."""
    return TaskCoordinate(dag_id, run_id, task_id, map_index).owns(reference, key)


def _unique() -> str:
    return f"{int(time.time()):x}-{secrets.token_hex(6)}"


def encode(key: str, text: str, *, compress: bool, preview: int) -> tuple[Reference, list[str]]:
    """The reference for a value and the pieces to store under its ``part_keys``.

    Args:
        text: the value's JSON, ASCII only.
        preview: the number of its characters that the reference shows.

    Raises:
        InvalidArgument: the value is too large.
    """
    if len(text) > _MAX_BYTES:
        raise InvalidArgument(
            f"the value is {len(text):,} bytes of JSON; an XCom takes {_MAX_BYTES:,} at most"
        )
    raw = text.encode("ascii")
    stored = base64.b64encode(zlib.compress(raw, 6)).decode("ascii") if compress else text
    pieces = [stored[i : i + PART_CHARS] for i in range(0, len(stored), PART_CHARS)]
    reference = Reference(
        key=key,
        sha256=hashlib.sha256(raw).hexdigest(),
        bytes=len(raw),
        preview=text if len(text) <= preview else text[: max(preview - 3, 0)] + "..." if preview else "",
        encoding=_ZLIB if compress else _JSON,
        parts=len(pieces) if len(pieces) > 1 else 0,
    )
    return reference, pieces


def decode(reference: Reference, stored: str) -> Any:
    """The value behind the stored text, still in Airflow's serialised form.

    Raises:
        CorruptData: the text does not match the reference.
    """
    try:
        raw = stored.encode("ascii")
        if reference.encoding == _ZLIB:
            raw = _inflate(base64.b64decode(raw, validate=True), reference.bytes)
        elif reference.encoding != _JSON:
            raise ValueError(f"encoding {reference.encoding!r} is not known to this version")
        if len(raw) != reference.bytes or hashlib.sha256(raw).hexdigest() != reference.sha256:
            raise ValueError("length or checksum differ")
        return json.loads(raw)
    except (ValueError, RecursionError, zlib.error) as exc:
        raise CorruptData(
            f"XCom {reference.key!r} in TitanStore is not the value that was stored there: {exc}; "
            "clear the task that pushed it"
        ) from exc


def _inflate(compressed: bytes, size: int) -> bytes:
    """Decompress at most ``size`` bytes, because a small text may hold gigabytes of zeros."""
    stream = zlib.decompressobj()
    raw = stream.decompress(compressed, size + 1)
    if not stream.eof:
        raise ValueError(f"it is cut off, or longer than the {size:,} bytes that its reference names")
    return raw


# -- in and out of TitanStore ------------------------------------------------------------------------------------


def store(client: TitanClient, reference: Reference, pieces: list[str]) -> None:
    """Write the pieces and read each one back, because a real master acknowledges writes even if its store is down.

    Raises:
        CorruptData: the store lost a piece.
    """
    for part_key, piece in zip(reference.part_keys, pieces, strict=True):
        client.store_put(part_key, piece)
        if client.store_get(part_key) != piece:
            raise CorruptData(
                f"TitanStore lost {part_key!r} a moment after it acknowledged it; the XCom was not pushed. "
                "Is the store behind the master running?"
            )


def fetch(client: TitanClient, reference: Reference) -> str:
    """The stored text, for ``decode``.

    Raises:
        NotFound: the text was removed, or parts of it are missing; the sentence says which.
        CorruptData: the text is longer than the reference allows.
    """
    pieces: list[str | None] = []
    room = reference.most_chars
    for part_key in reference.part_keys:
        pieces.append(client.store_get(part_key))
        room -= len(pieces[-1] or "")
        if room < 0:
            raise CorruptData(
                f"XCom {reference.key!r} in TitanStore is not the value that was stored there: it is longer than the "
                f"{reference.bytes:,} bytes that its reference names; clear the task that pushed it"
            )
    missing = [piece for piece in pieces if not piece]
    if not missing:
        return "".join(piece for piece in pieces if piece)
    if client.store_get(reference.key) == "":
        raise NotFound(
            f"XCom {reference.key!r} was removed from TitanStore: its task was cleared or retried, or `titan xcom gc` "
            "collected it; run the task that pushes it again"
        )
    raise NotFound(
        f"XCom {reference.key!r} is not in TitanStore any more ({len(missing)} of {len(pieces)} parts missing); "
        "clear the task that pushed it"
    )


def remove(client: TitanClient, reference: Reference) -> None:
    """Delete the value. An empty text stays under its key, so that a later reader gets the reason."""
    can_delete = client.server_info().has("store_ops")
    client.store_put(reference.key, "")
    for key in [*reference.part_keys, _proof_key(reference)]:
        if key == reference.key:
            continue
        if can_delete:
            client.store_delete(key)
        elif client.store_get(key):
            client.store_put(key, "")


# -- for jobs ----------------------------------------------------------------------------------------------------


def read_xcom(
    client: TitanClient,
    dag_id: str,
    run_id: str,
    task_id: str,
    *,
    key: str = "return_value",
    map_index: int = -1,
    region: str | None = None,
    allowed_classes: Iterable[type | str] = (),
) -> Any:
    """The value that an Airflow task pushed last, read from TitanStore by a job on the cluster.

    A value of a type in docs/values.md comes back unchanged. Other values are in Airflow's serialised form.

    Args:
        map_index: the index of a mapped task's instance.
        region: id of the task's region, on versions of Airflow that have regions.
        allowed_classes: see ``titan_sdk.values.load``.

    Raises:
        NotFound: the task pushed no such XCom, or the value was removed.
        CorruptData: the stored value is damaged.
        UnreadableValue: the value has an object of a class that is not allowed, or needs a package that is not installed.
    """
    place = TaskCoordinate(dag_id, run_id, task_id, map_index, region).xcom_place(key)
    text = client.store_get(place)
    if not text:
        raise NotFound(
            f"TitanStore has no XCom {key!r} of task {task_id!r} (map index {map_index}) in run {run_id!r} of DAG "
            f"{dag_id!r}; did the task push it, with TitanStoreXComBackend switched on? Values below xcom_threshold (1024 bytes by "
            "default) stay in Airflow: give them to the job as job_params"
        )
    try:
        reference = Reference.from_json(json.loads(text))
    except (ValueError, RecursionError):
        reference = None
    if reference is None:
        raise CorruptData(f"TitanStore key {place!r} holds {text[:80]!r}, which is no reference to an XCom")
    return values.load(value_of(client, reference), allowed_classes=allowed_classes, where=f"XCom {key!r}")


def value_of(client: TitanClient, reference: Reference) -> Any:
    """The JSON form of the value behind a reference.

    Raises:
        NotFound, CorruptData: see ``read_xcom``.
    """
    return decode(reference, fetch(client, reference))


def write_xcom(
    client: TitanClient, value: Any, *, compress: bool = False, preview: int = 80
) -> dict[str, Any]:
    """Store a value from within a job, so that it does not pass through Airflow's worker.

    The job's result must be the returned reference alone: ``titan_job.result(write_xcom(client, value))``. If
    TitanStoreXComBackend is switched on, the reference becomes the task's XCom, and a task that pulls it gets the value.

    Args:
        value: a value of the types in docs/values.md.

    Raises:
        InvalidArgument: a part of the value cannot be carried.
        CorruptData: the store lost the value.
    """
    text = json.dumps(values.dump(value, "write_xcom: the value"), separators=(",", ":"), allow_nan=False)
    job_id = full_id(os.environ.get("TITAN_JOB_ID", "no-job"))
    reference, pieces = encode(f"{_JOB_PREFIX}{job_id}/{_unique()}", text, compress=compress, preview=preview)
    store(client, reference, pieces)
    client.store_put(_proof_key(reference), _proof(reference))
    return reference.to_json()


def was_written_by_a_job(client: TitanClient, reference: Reference) -> bool:
    """Whether ``write_xcom`` made the reference. A user's own dict may look like one.

    Raises:
        NotFound: the reference looks like one of ``write_xcom``, but its value is no longer in TitanStore.
    """
    if not reference.key.startswith(_JOB_PREFIX):
        return False
    if proof := client.store_get(_proof_key(reference)):
        return proof == _proof(reference)
    raise NotFound(
        f"the value {reference.key!r} that a job wrote is not in TitanStore any more: `titan xcom gc` collected it, or "
        "the store has lost it; clear the task, so that its job runs again"
    )


def _proof_key(reference: Reference) -> str:
    return f"{reference.key}:ref"


def _proof(reference: Reference) -> str:
    return json.dumps(reference.to_json(), sort_keys=True)
