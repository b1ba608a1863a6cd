"""The payloads of our extension opcodes, both halves; docs/protocol.md specifies them.

Requests and replies are one JSON object in ASCII. Those that carry file content (``ASSET_WRITE`` requests,
``ASSET_READ`` replies) are such an object, a line feed, and the raw bytes. A failure is a text that begins with
``ERROR``, as everywhere in Titan v1.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from titan_sdk.errors import PeerProtocolError

__all__ = [
    "BEGIN_AGAIN",
    "CHUNK_SIZE",
    "MAX_WAIT_IDS",
    "MAX_WAIT_SECONDS",
    "AssetRead",
    "AssetWrite",
    "Fields",
    "JobInfo",
    "LogRead",
    "StoreSwap",
    "Submit",
    "Wait",
    "join_content",
    "read_object",
    "split_content",
    "write_object",
]

T = TypeVar("T")

CHUNK_SIZE = 4 * 1024 * 1024
"""Content bytes of one chunk: under the packet limit, and small against a client's memory."""
BEGIN_AGAIN = "begin again at offset 0"
"""Ends the refusal of a chunk by a restarted master, which does not know the upload. No part of the artifact is in place."""
MAX_WAIT_IDS = 20_000
"""The most jobs of one WAIT: a master keeps each of them in memory while the WAIT is open."""
MAX_WAIT_SECONDS = 25.0
"""The longest time a master holds a WAIT, in seconds. It is below a client's default read timeout."""


class Fields(dict[str, Any]):
    """A JSON object received from a peer. Each method checks the type of a field."""

    def want(self, name: str, kind: type[T]) -> T:
        """The field.

        Raises:
            PeerProtocolError: it is absent or of another type.
        """
        value = self.get(name)
        if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
            value = float(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise PeerProtocolError(
                f"field {name!r} is {value!r}, not a number that anything can be counted in"
            )
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise PeerProtocolError(f"field {name!r} is {value!r}, not a {kind.__name__}")
        return value

    def may(self, name: str, kind: type[T]) -> T | None:
        """The field, or ``None`` where it is null or absent.

        Raises:
            PeerProtocolError: it is of another type.
        """
        return None if self.get(name) is None else self.want(name, kind)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts.

        Raises:
            PeerProtocolError: it is absent or no list of texts.
        """
        value = self.want(name, list)
        if not all(isinstance(item, str) for item in value):
            raise PeerProtocolError(f"field {name!r} is {value!r}, not a list of texts")
        return tuple(value)

    def text_map(self, name: str, kinds: tuple[type, ...]) -> dict[str, Any]:
        """An object whose values are of these types; empty if it is absent.

        Raises:
            PeerProtocolError: it holds a value of another type.
        """
        value = self.may(name, dict) or {}
        if not all(isinstance(item, kinds) for item in value.values()):
            raise PeerProtocolError(f"field {name!r} is {value!r}, which holds other values than texts")
        return value


def write_object(**fields: Any) -> str:
    """A JSON object in ASCII, without line feeds."""
    return json.dumps(fields, separators=(",", ":"))


def read_object(text: str) -> Fields:
    """The object behind a payload.

    Raises:
        PeerProtocolError: it is not one.
    """
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise PeerProtocolError(f"expected a JSON object, got {text[:80]!r} ({exc})") from exc
    if not isinstance(found, dict):
        raise PeerProtocolError(f"expected a JSON object, got {text[:80]!r}")
    return Fields(found)


def _refuse_constant(word: str) -> None:
    # Python's reader accepts NaN and Infinity, which are no JSON and no field's value.
    raise ValueError(f"{word} is not JSON")


def join_content(head: str, content: bytes) -> bytes:
    """An object and raw bytes in one payload."""
    return head.encode("ascii") + b"\n" + content


def split_content(payload: bytes) -> tuple[Fields, bytes]:
    """The object and the raw bytes of a payload.

    Raises:
        PeerProtocolError: there is no object before the first line feed.
    """
    head, feed, content = payload.partition(b"\n")
    if not feed:
        raise PeerProtocolError(f"expected an object, a line feed and content, got {payload[:80]!r}")
    return read_object(head.decode("utf-8", errors="replace")), content


@dataclass(frozen=True, slots=True)
class Wait:
    """WAIT 0x41: answered when any of the jobs is terminal, or after ``seconds``.

    With ``every`` it is answered when all of them are terminal: one request for a DAG of thousands. A master that does
    not know this field answers earlier.

    Reply: ``{"states": {id: word}}`` for every id; ``NULL`` for an id that the master does not know.

    ``reports`` names jobs whose runtime records the reply includes, each with the nonce of the submission (null: the
    latest). They arrive as ``"reports": {id: {"nonce", "record", "tail"}}``: for jobs that have ended, and with
    ``seconds`` 0 for all. ``record`` is the stored text, or null. ``tail`` is the end of the master's log of a dead job.
    Reports that do not fit into the reply are left out.
    """

    ids: tuple[str, ...]
    seconds: float
    every: bool = False
    reports: Mapping[str, str | None] = field(default_factory=dict)

    def encode(self) -> str:
        more: dict[str, Any] = {"every": True} if self.every else {}
        if self.reports:
            more["reports"] = dict(self.reports)
        return write_object(ids=list(self.ids), seconds=self.seconds, **more)

    @classmethod
    def decode(cls, text: str) -> Wait:
        fields = read_object(text)
        seconds = min(max(fields.want("seconds", float), 0.0), MAX_WAIT_SECONDS)
        ids = fields.texts("ids")
        if len(ids) > MAX_WAIT_IDS:
            raise PeerProtocolError(
                f"it names {len(ids):,} jobs; the limit is {MAX_WAIT_IDS:,}, so ask for them in several requests"
            )
        reports = fields.text_map("reports", (str, type(None)))
        return cls(ids, seconds, bool(fields.may("every", bool)), reports)


@dataclass(frozen=True, slots=True)
class JobInfo:
    """JOB_INFO 0x42: the master's details of one job.

    Reply: ``{"state", "reason", "attempts", "worker", "exit_code", "submitted_at", "started_at", "ended_at",
    "ahead", "history": [[unix seconds, text], ...]}``; unknown values are null. ``ahead`` counts the ready jobs of the
    same tag that start before this one, while it is queued.
    """

    job_id: str

    def encode(self) -> str:
        return write_object(id=self.job_id)

    @classmethod
    def decode(cls, text: str) -> JobInfo:
        return cls(read_object(text).want("id", str))


@dataclass(frozen=True, slots=True)
class LogRead:
    """LOG_READ 0x43: the master's log of a job, from a byte offset.

    With a nonce only the log of that submission is read; the log of another submission of the id counts as empty. With
    ``until`` the text ends at that offset. Reply: ``{"text", "next", "ended"}``. A character is never cut. ``ended``
    says that nothing will follow.
    """

    job_id: str
    offset: int
    nonce: str | None = None
    until: int | None = None

    def encode(self) -> str:
        more = {"nonce": self.nonce, "until": self.until}
        given = {name: value for name, value in more.items() if value is not None}
        return write_object(id=self.job_id, offset=self.offset, **given)

    @classmethod
    def decode(cls, text: str) -> LogRead:
        fields = read_object(text)
        return cls(
            fields.want("id", str),
            fields.want("offset", int),
            fields.may("nonce", str),
            fields.may("until", int),
        )


@dataclass(frozen=True, slots=True)
class Submit:
    """SUBMIT 0x4B: a DAG and the TitanStore values that belong to it. The master stores both or neither.

    ``mark`` is one of these keys; only this submission writes it. If the key exists and the jobs are known, a copy of
    the request changes nothing more. Reply: ``{"taken": true}``, or ``{"taken": false, "id", "state"}`` for an id
    that cannot be submitted again in its state.
    """

    mark: str
    values: Mapping[str, str]
    dag: str

    def encode(self) -> bytes:
        return join_content(write_object(mark=self.mark, values=dict(self.values)), self.dag.encode("utf-8"))

    @classmethod
    def decode(cls, payload: bytes) -> Submit:
        fields, dag = split_content(payload)
        mark, values = fields.want("mark", str), fields.text_map("values", (str,))
        if mark not in values:
            raise PeerProtocolError(f"mark {mark!r} is not a key of values")
        return cls(mark, values, dag.decode("utf-8", errors="replace"))


@dataclass(frozen=True, slots=True)
class AssetWrite:
    """ASSET_WRITE 0x44: one chunk of an upload. Nothing is visible under ``name`` before the last chunk.

    ``upload`` names the upload (16 hex digits, chosen by the client). ``offset`` is the chunk's position; writing the
    same chunk again changes nothing. The chunk with ``sha256`` ends the upload: the master checks the whole content
    and puts it in place in one step. Reply: ``{"size": bytes so far}``.
    """

    name: str
    upload: str
    offset: int
    sha256: str | None
    content: bytes

    def encode(self) -> bytes:
        head = write_object(name=self.name, upload=self.upload, offset=self.offset, sha256=self.sha256)
        return join_content(head, self.content)

    @classmethod
    def decode(cls, payload: bytes) -> AssetWrite:
        fields, content = split_content(payload)
        digest = fields.get("sha256")
        return cls(
            fields.want("name", str),
            fields.want("upload", str),
            fields.want("offset", int),
            None if digest is None else fields.want("sha256", str),
            content,
        )


@dataclass(frozen=True, slots=True)
class AssetRead:
    """ASSET_READ 0x45: one chunk of an artifact. Reply: ``{"size", "sha256"}`` of the whole, and the bytes.

    ``sha256`` selects the version, and is empty in the first request. The reply is ``ERROR: changed`` if the artifact
    has another version by now, so two versions are never mixed.
    """

    name: str
    offset: int
    sha256: str

    def encode(self) -> str:
        return write_object(name=self.name, offset=self.offset, sha256=self.sha256)

    @classmethod
    def decode(cls, text: str) -> AssetRead:
        fields = read_object(text)
        return cls(fields.want("name", str), fields.want("offset", int), fields.want("sha256", str))


@dataclass(frozen=True, slots=True)
class StoreSwap:
    """STORE_SWAP 0x48: set a key if it holds ``expected`` (null: if it is absent).

    A null ``value`` deletes the key. Reply: ``{"swapped": bool}``.
    """

    key: str
    expected: str | None
    value: str | None

    def encode(self) -> str:
        return write_object(key=self.key, expected=self.expected, value=self.value)

    @classmethod
    def decode(cls, text: str) -> StoreSwap:
        fields = read_object(text)
        old, new = fields.get("expected"), fields.get("value")
        return cls(
            fields.want("key", str),
            None if old is None else fields.want("expected", str),
            None if new is None else fields.want("value", str),
        )
