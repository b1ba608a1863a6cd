"""Reads the runtime's values in TitanStore. Pure; malformed text raises CorruptData."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from titan_sdk.errors import CorruptData, InvalidArgument
from titan_sdk.model.files import FileRef
from titan_sdk.model.rules import CANCEL_GRACE

__all__ = [
    "ExceptionInfo",
    "LogChunk",
    "ResultInfo",
    "RunState",
    "join_result",
    "load_result",
    "parse_log_chunk",
    "parse_result_slice",
    "parse_state",
]

T = TypeVar("T")

_STATES = ("claimed", "running", "succeeded", "failed")


@dataclass(frozen=True, slots=True)
class ExceptionInfo:
    """An uncaught Python exception of the user's script."""

    type: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class ResultInfo:
    """The size of a result, and its checksum."""

    chunks: int
    bytes: int
    sha256: str
    text: str | None = None
    """The text of a small result. It then has no slices; only on a master whose acknowledgements are reliable."""


@dataclass(frozen=True, slots=True)
class RunState:
    """The state record of the latest attempt. Times are unix seconds on the worker's clock."""

    state: str
    """``claimed`` (confirmed, the user's code is about to start), ``running``, ``succeeded`` or ``failed``."""
    attempt: int
    """Counted from 1; 0 when the launcher refused to start (``reason`` says why)."""
    token: str
    worker: str
    host: str
    pid: int
    started_at: float | None
    ended_at: float | None
    heartbeat_at: float
    exit_code: int | None
    signal: str | None
    exception: ExceptionInfo | None
    reason: str | None
    progress: tuple[float | None, str] | None
    log_chunks: int
    """The confirmed log chunks so far, over all attempts; final once ``ended``."""
    result: ResultInfo | None
    cancel_grace: float = CANCEL_GRACE
    cancelled: bool = False
    """Whether a cancel caused its end: it never started, or the runtime ended it."""

    outputs: Mapping[str, FileRef | tuple[FileRef, ...]] = field(default_factory=dict)
    """The published files, by name."""
    is_last: bool = False
    """Whether the launcher refuses further starts after this attempt."""
    environment_seconds: float | None = None
    """The seconds until its packages were ready; None for a job without packages of its own."""
    logs_to_master: bool = False
    """Whether its output is in the master's log, and not in chunks."""

    @property
    def is_final(self) -> bool:
        """Whether the job has ended, whatever the master reports."""
        return self.succeeded or (self.ended and self.is_last)

    @property
    def ended(self) -> bool:
        """Whether this attempt has ended. With attempts left, the master may start another one."""
        return self.state in ("succeeded", "failed")

    @property
    def succeeded(self) -> bool:
        return self.state == "succeeded"


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of the output, and the attempt that printed it."""

    attempt: int
    text: str


def parse_state(text: str) -> RunState:
    """A state record.

    Raises:
        CorruptData: it is not a record of this version, or a field is missing or of the wrong type.
    """
    fields = _RecordFields("state record", text)
    state = fields.want("state", str)
    if state not in _STATES:
        raise fields.wrong(f"has the state {state!r}, not one of {', '.join(_STATES)}")
    return RunState(
        state=state,
        attempt=fields.want("attempt", int),
        token=fields.want("token", str),
        worker=fields.want("worker", str),
        host=fields.want("host", str),
        pid=fields.want("pid", int),
        started_at=fields.number("started_at"),
        ended_at=fields.number("ended_at"),
        heartbeat_at=fields.number("heartbeat_at") or 0.0,
        exit_code=fields.may("exit_code", int),
        signal=fields.may("signal", str),
        exception=_exception(fields),
        reason=fields.may("reason", str),
        progress=_progress(fields),
        log_chunks=fields.may("log_chunks", int) or 0,
        result=_result(fields),
        cancel_grace=CANCEL_GRACE if (grace := fields.number("cancel_grace")) is None else grace,
        cancelled=fields.may("cancelled", bool) or False,
        outputs=_outputs(fields),
        is_last=fields.may("last", bool) or False,
        environment_seconds=_environment(fields),
        logs_to_master=fields.may("log", str) == "master",
    )


def parse_log_chunk(text: str) -> LogChunk:
    """One log chunk. Raises CorruptData."""
    fields = _RecordFields("log chunk", text)
    return LogChunk(fields.want("attempt", int), fields.want("text", str))


def parse_result_slice(text: str) -> str:
    """One slice of a result's JSON text. Raises CorruptData."""
    return _RecordFields("result slice", text).want("data", str)


def join_result(info: ResultInfo, slices: Iterable[str]) -> Any:
    """The result, joined from its stored slices in order.

    Raises:
        CorruptData: a slice is missing, damaged or from another submission.
    """
    return load_result(info, "".join(map(parse_result_slice, slices)))


def load_result(info: ResultInfo, text: str) -> Any:
    """The result of its whole JSON text. Raises CorruptData."""
    if len(text) != info.bytes or hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() != info.sha256:
        raise CorruptData(
            f"the result read back has {len(text)} characters and another checksum than the {info.bytes} that the "
            "job wrote; its slices in TitanStore were lost or overwritten"
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise CorruptData(f"the result is not JSON ({exc})") from exc


class _RecordFields:
    """A JSON object whose fields are checked for their types."""

    def __init__(self, what: str, source: str | dict[str, Any]) -> None:
        self.what = what
        self.shown = source if isinstance(source, str) else json.dumps(source)
        try:
            found = json.loads(source) if isinstance(source, str) else source
        except (ValueError, RecursionError) as exc:
            raise self.wrong(f"is not JSON ({exc})") from exc
        if not isinstance(found, dict):
            raise self.wrong("is not a JSON object")
        self.found = found
        if isinstance(source, str) and found.get("v") != 1:
            raise self.wrong(f"has the version {found.get('v')!r}; this SDK reads version 1, so upgrade it")

    def want(self, name: str, kind: type[T]) -> T:
        value = self.may(name, kind)
        if value is None:
            raise self.wrong(f"has no field {name!r}")
        return value

    def may(self, name: str, kind: type[T]) -> T | None:
        value = self.found.get(name)
        # In Python True is an int; in a record it is an error.
        if value is None or (isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)):
            return value
        raise self.wrong(f"holds {value!r} in {name!r} where {kind.__name__} belongs")

    def number(self, name: str) -> float | None:
        value = self.found.get(name)
        if type(value) is int and abs(value) <= sys.float_info.max:
            return float(value)
        return self.may(name, float)

    def inner(self, name: str) -> _RecordFields | None:
        value: dict[str, Any] | None = self.may(name, dict)
        return None if value is None else _RecordFields(f"{self.what}'s {name}", value)

    def wrong(self, problem: str) -> CorruptData:
        return CorruptData(f"the runtime's {self.what} {problem}: {self.shown[:200]!r}")


def _exception(fields: _RecordFields) -> ExceptionInfo | None:
    inner = fields.inner("exception")
    if inner is None:
        return None
    return ExceptionInfo(inner.want("type", str), inner.want("message", str), inner.want("traceback", str))


def _progress(fields: _RecordFields) -> tuple[float | None, str] | None:
    inner = fields.inner("progress")
    return None if inner is None else (inner.number("fraction"), inner.may("text", str) or "")


def _environment(fields: _RecordFields) -> float | None:
    inner = fields.inner("environment")
    return None if inner is None else inner.number("seconds")


def _result(fields: _RecordFields) -> ResultInfo | None:
    inner = fields.inner("result")
    if inner is None:
        return None
    return ResultInfo(
        inner.want("chunks", int), inner.want("bytes", int), inner.want("sha256", str), inner.may("text", str)
    )


def _outputs(fields: _RecordFields) -> dict[str, FileRef | tuple[FileRef, ...]]:
    found: dict[str, Any] = fields.may("outputs", dict) or {}
    try:
        return {
            name: tuple(map(FileRef.from_json, ref)) if isinstance(ref, list) else FileRef.from_json(ref)
            for name, ref in found.items()
        }
    except InvalidArgument as exc:
        raise fields.wrong(f"has outputs that cannot be read ({exc})") from exc
