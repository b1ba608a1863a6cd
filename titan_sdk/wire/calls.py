"""Each request of Titan v1 as one value: opcode, payload, and how to read the reply (protocol section 2).

A real master derives the reply's opcode from the reply's text (section 1.1). Where a reply carries user data, the
opcode is therefore ignored, and only the exact failure texts count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from titan_sdk.errors import (
    LocalProtocolError,
    NotFound,
    PeerProtocolError,
    RequestRefused,
    StoreUnavailable,
)
from titan_sdk.model.rules import full_id
from titan_sdk.model.server import ServerInfo
from titan_sdk.model.status import JobStatus
from titan_sdk.wire import hello
from titan_sdk.wire.fields import (
    decode_base64,
    decode_value,
    encode_base64,
    encode_key,
    encode_member,
    encode_value,
    join_pair,
    split_members,
)
from titan_sdk.wire.frames import Frame
from titan_sdk.wire.opcodes import STORE_FAILED, Opcode

if TYPE_CHECKING:
    from titan_sdk.model.stats import ClusterStats
    from titan_sdk.wire.jobs import JobLine

__all__ = [
    "Call",
    "cancel_job",
    "check_store",
    "cluster_stats",
    "deploy_script",
    "fetch_asset",
    "get_logs",
    "is_refusal",
    "job_status",
    "kv_get",
    "kv_sadd",
    "kv_set",
    "kv_set_raw",
    "kv_smembers",
    "server_info",
    "stop_service",
    "submit_dag",
    "upload_asset",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and the meaning of its reply."""

    name: str
    opcode: Opcode
    payload: str | bytes
    read: Callable[[Frame], T]
    changes: bool = True
    """Whether the request may change something. If so, a lost reply leaves its outcome unknown."""
    with_id: bool = True
    """Whether the request may carry an id, by which a master with ONCE recognizes a copy."""
    repeatable: bool = False
    """Whether a copy without an id changes nothing more, even if another client wrote between the two."""
    feature: str | None = None
    """The feature that a master must have announced. Such a master changes nothing more on a copy."""
    advice: str = ""
    """The fix that the error names when the payload is over the packet limit."""

    def encoded(self) -> bytes:
        """The payload's bytes.

        Raises:
            LocalProtocolError: the payload holds a lone surrogate (from an undecodable file name, say), which a master would
                replace silently.
        """
        if isinstance(self.payload, bytes):
            return self.payload
        try:
            return self.payload.encode("utf-8")
        except UnicodeEncodeError as exc:
            shown = self.payload[max(exc.start - 20, 0) : exc.end + 20]
            raise LocalProtocolError(
                f"{self.name}: {shown!r} holds a lone surrogate, which UTF-8 cannot hold; rename or encode it"
            ) from exc


def submit_dag(lines: Sequence[JobLine]) -> Call[str]:
    """0x04. A real master answers ``DAG_ACCEPTED`` to anything; the bundled one refuses with a sentence."""
    from titan_sdk.wire.jobs import encode_dag  # a client that submits nothing does without

    return Call(
        "submit_dag",
        Opcode.SUBMIT_DAG,
        encode_dag(lines),
        _expect("submit_dag", "DAG_ACCEPTED"),
        with_id=False,  # the status of its jobs tells whether it was taken
        advice="split the DAG, or send large inputs with upload_file",
    )


def job_status(job_id: str) -> Call[JobStatus]:
    """0x55, by full id: without ``DAG-`` a real master answers NULL (hazard 3)."""
    return Call("get_job_status", Opcode.GET_JOB_STATUS, full_id(job_id), _read_status, changes=False)


def cancel_job(job_id: str) -> Call[bool]:
    """0x56. False for ``NOT_FOUND``, which does not mean that nothing happened (section 7).

    Repeatable without a request id: on a real master a cancelled job id stays cancelled for good.
    """
    return Call("cancel_job", Opcode.CANCEL_JOB, full_id(job_id), _read_cancel, repeatable=True)


def stop_service(service_id: str) -> Call[str]:
    """0x07, by full id."""
    return Call("stop_service", Opcode.STOP, full_id(service_id), _read_stop)


def get_logs(job_id: str) -> Call[str]:
    """0x16, by full id. The opcode of the reply is ignored: log text may begin like an error."""
    return Call("fetch_logs", Opcode.GET_LOGS, full_id(job_id), lambda frame: frame.text, changes=False)


def cluster_stats() -> Call[ClusterStats]:
    """0x09."""
    from titan_sdk.wire import statsjson  # few ask for them

    return Call(
        "cluster_stats", Opcode.STATS_JSON, "", lambda frame: statsjson.parse(frame.text), changes=False
    )


def server_info(token: str | None = None) -> Call[ServerInfo]:
    """0x40, our extension. The answer ``UNKNOWN_OPCODE`` identifies a real master."""
    return Call(
        "server_info",
        Opcode.HELLO,
        hello.request(token),
        lambda frame: hello.read_reply(frame.text),
        changes=False,
    )


def is_refusal(frame: Frame) -> bool:
    """Whether the reply looks like a demand for a token. Stored text can look the same."""
    return frame.opcode == Opcode.ERROR and frame.payload.startswith(hello.REFUSED.encode("ascii"))


def upload_asset(name: str, data: bytes) -> Call[str]:
    """0x53; about 7.86 MB at most (section 8.2)."""
    return Call(
        f"upload of {name!r}",
        Opcode.UPLOAD_ASSET,
        join_pair(name, encode_base64(data)),
        _expect(f"upload of {name!r}", "UPLOAD_SUCCESS"),
        advice=_UPLOAD_ADVICE,
    )


def deploy_script(name: str, data: bytes) -> Call[str]:
    """0x57."""
    return Call(
        f"deploy_script {name!r}",
        Opcode.DEPLOY_SCRIPT,
        join_pair(name, encode_base64(data)),
        _expect(f"deploy_script {name!r}", "DEPLOY_SUCCESS"),
        advice=_UPLOAD_ADVICE,
    )


def fetch_asset(name: str) -> Call[bytes]:
    """0x54. Base64 may itself begin with ``ERROR``, so only texts that are not base64 count as failures."""
    return Call(
        f"fetch of {name!r}",
        Opcode.FETCH_ASSET,
        name,
        lambda frame: _read_asset(name, frame.text),
        changes=False,
    )


def kv_set(key: str, value: str) -> Call[str]:
    """0x60. ``OK`` is no promise of durability on a real master (hazard 12)."""
    return kv_set_raw(key, encode_value(value))


def kv_set_raw(key: str, stored: str) -> Call[str]:
    """0x60, with a value that is already in its stored form."""
    payload = join_pair(encode_key(key), stored)
    name = f"store_put {key!r}"
    return Call(name, Opcode.KV_SET, payload, _expect(name, "OK"), advice=_STORE_ADVICE)


def kv_get(key: str) -> Call[str | None]:
    """0x61; ``None`` when absent (or, on a real master, when its store is down)."""
    name = f"store_get {key!r}"
    return Call(name, Opcode.KV_GET, encode_key(key), lambda frame: _read_value(name, frame), changes=False)


def kv_sadd(key: str, member: str) -> Call[int]:
    """0x62. A real master answers 0 whatever happened (section 8.1).

    Repeatable without a request id: a real master has no operation that removes a member.
    """
    payload = join_pair(encode_key(key), encode_member(member))
    return Call(
        f"store_sadd {key!r}", Opcode.KV_SADD, payload, _read_count, advice=_STORE_ADVICE, repeatable=True
    )


def kv_smembers(key: str) -> Call[list[str]]:
    """0x63."""
    name = f"store_smembers {key!r}"

    def read(frame: Frame) -> list[str]:
        check_store(name, frame.text)
        return split_members(frame.text)

    return Call(name, Opcode.KV_SMEMBERS, encode_key(key), read, changes=False)


_UPLOAD_ADVICE = "a file of up to 7.86 MB fits; make it smaller or put it where the workers can read it"
_STORE_ADVICE = "store a reference and put the bytes into a file with upload_file"


def _expect(operation: str, wanted: str) -> Callable[[Frame], str]:
    def read(frame: Frame) -> str:
        if frame.text == wanted:
            return wanted
        raise _refusal(operation, frame)

    return read


def check_store(operation: str, text: str) -> None:
    """Raise if the reply reports a failure of the bundled master's store.

    No value that this SDK has written looks like such a reply.

    Raises:
        StoreUnavailable: the reply reports a failure.
    """
    if text.startswith(STORE_FAILED):
        raise StoreUnavailable(
            f"{operation}: the master's store does not answer now: {text.removeprefix(STORE_FAILED)}; try again",
            operation=operation,
        )


def _refusal(operation: str, frame: Frame) -> RequestRefused:
    """The error for a refused request. Raises ``StoreUnavailable`` instead where the store has failed."""
    detail = frame.text
    check_store(operation, detail)
    said = detail.removeprefix("ERROR:").strip() or "an empty answer"
    return RequestRefused(f"{operation}: the master refused: {said}", detail=detail)


def _read_status(frame: Frame) -> JobStatus:
    check_store("get_job_status", frame.text)
    return JobStatus.from_wire(frame.text)


def _read_cancel(frame: Frame) -> bool:
    if frame.text in {"CANCELLED", "NOT_FOUND"}:
        return frame.text == "CANCELLED"
    raise _refusal("cancel_job", frame)


def _read_stop(frame: Frame) -> str:
    text = frame.text
    if text.startswith(("STOPPED", "SUCCESS")):
        return text
    if "not found" in text or text.startswith("UNKNOWN_SERVICE"):
        raise NotFound(f"stop_service: no such running service ({text})", detail=text)
    raise _refusal("stop_service", frame)


def _read_value(operation: str, frame: Frame) -> str | None:
    check_store(operation, frame.text)
    return None if frame.text == "NULL" else decode_value(frame.text)


def _read_count(frame: Frame) -> int:
    if frame.text.strip() in {"0", "1"}:
        return int(frame.text)
    raise _refusal("store_sadd", frame)


_FETCH_FAILURES = ("ERROR_NOT_FOUND", "ERROR_READING_FILE", "SERVER_ERROR", "ERROR:")


def _read_asset(name: str, text: str) -> bytes:
    # '_' and ':' are outside the base64 alphabet, so no file's content can look like one of these.
    if text.startswith("ERROR_NOT_FOUND"):
        raise NotFound(f"fetch of {name!r}: the master has no artifact of that name", detail=text)
    if text.startswith(_FETCH_FAILURES):
        raise RequestRefused(f"fetch of {name!r}: the master refused: {text}", detail=text)
    try:
        return decode_base64(text)
    except PeerProtocolError as exc:
        raise RequestRefused(f"fetch of {name!r}: the master answered {text[:200]!r}", detail=text) from exc
