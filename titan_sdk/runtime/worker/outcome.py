"""The outcome of a job: the fields of the state record, and the launcher's exit code."""

from __future__ import annotations

import os

from . import limits, store
from .c_modules import dumps, partial, sha256, signal, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional, Tuple

    from .jobdir import JobDir
    from .record import Record


def describe(
    report: str, guard_status: int, asked: int, timeout: Optional[float], out_of_memory: Callable[[], bool]
) -> Tuple[int, Dict[str, Any]]:
    """Exit code and record fields from the guard's report, its wait status and the signal that asked to stop.

    `out_of_memory`: whether the kernel killed a process in the job's control group meanwhile.
    """
    lines = _lines(report)
    if "F" in lines:
        errno, _, words = lines["F"].partition(" ")
        return 127 if errno == "2" else 126, _failed(None, None, "the worker cannot start it: " + words)
    if "X" not in lines:
        told = lines.get("E") or (
            "killed by " + signal_name(os.WTERMSIG(guard_status)) if os.WIFSIGNALED(guard_status) else "gone"
        )
        return 128 + signal.SIGKILL, _failed(
            None,
            "SIGKILL",
            "the runtime's guard process ended early (%s), so everything it watched was ended" % told,
        )
    status, cause, _ = lines["X"].split(" ")
    number = os.WTERMSIG(int(status)) if os.WIFSIGNALED(int(status)) else 0
    code = None if number else os.WEXITSTATUS(int(status))
    name = signal_name(number) if number else None
    if cause == "timeout":
        sentence = "it ran longer than its timeout of %g s and was ended" % (timeout or 0)
        return code or (128 + number if number else 124), _failed(code, name or "SIGTERM", sentence)
    if cause in ("stopped", "killed"):
        sentence = "stopped: the job was sent %s" % signal_name(asked or signal.SIGTERM)
        return code or 128 + (number or asked or signal.SIGTERM), _failed(code, name or "SIGTERM", sentence)
    if number:
        sentence = _SIGNALS.get(name or "", "it was ended by %s" % name)
        if number == signal.SIGKILL and out_of_memory():
            sentence = "it was ended by SIGKILL: " + _OUT_OF_MEMORY
        return 128 + number, _failed(None, name, sentence)
    if code:
        # The exit code of a killed program, as a shell reports it.
        killed = code == 128 + signal.SIGKILL and out_of_memory()
        return code, _failed(code, None, "a process of it was killed: " + _OUT_OF_MEMORY if killed else None)
    return 0, {"state": "succeeded", "exit_code": 0, "signal": None, "reason": None}


def with_environment(
    place: JobDir, report: str, code: int, fields: Dict[str, Any]
) -> Tuple[int, Dict[str, Any]]:
    """The same, with the state of the job's environment. If the environment failed, the job's code did not start."""
    if place.packages is None:
        return code, fields
    from . import environments

    told = environments.read(place.root) or {"state": "failed", "seconds": 0.0}
    fields["environment"] = {"state": told["state"], "seconds": told["seconds"]}
    if told["state"] in ("reused", "waited", "built"):
        fields["started_at"] = round(os.stat(place.path("environment.json")).st_mtime, 3)
        return code, fields
    fields["started_at"] = None
    cause = _lines(report).get("X", "0 exit 1").split(" ")[1]
    if cause in ("stopped", "killed"):
        return code, fields
    if cause == "timeout":
        reason = (
            "its environment did not stand within %g s (TITAN_RUNTIME_BUILD_PATIENCE on the worker)"
            % limits.BUILD_PATIENCE
        )
    else:
        how = fields["reason"] or "exit code %d" % code
        reason = told.get("reason") or "the process that builds its environment ended early: %s" % how
    fields.update(_failed(environments.FAILED, None, reason))
    return environments.FAILED, fields


def user_pid(report: str) -> int:
    """The user's process and process group, or 0 if none was started."""
    return int(_lines(report).get("S", 0))


def _lines(report: str) -> Dict[str, str]:
    """The guard's report by kind: S started pid, F failed to start, X ended, E error of its own."""
    return {line[0]: line[2:] for line in report.splitlines() if line[1:2] == " "}


_OUT_OF_MEMORY = (
    "the kernel has killed for lack of memory in its control group, which counts that (oom_kill); "
    "give the job more memory, or let it use less"
)
_SIGNALS = {
    "SIGKILL": "it was ended by SIGKILL, which the runtime did not send: most often the kernel, out of memory",
    "SIGSEGV": "it was ended by SIGSEGV: a crash in native code (segmentation fault)",
}


def _failed(code: Optional[int], name: Optional[str], reason: Optional[str]) -> Dict[str, Any]:
    return {"state": "failed", "exit_code": code, "signal": name, "reason": reason}


def read_exception(place: JobDir) -> Optional[Dict[str, str]]:
    """The uncaught exception that the Python runner wrote, cut to a size that the record can carry."""
    found = _load(place.path("exception.json"))
    if not isinstance(found, dict):
        return None
    texts = {name: str(found.get(name, "")) for name in ("type", "message", "traceback")}
    texts["message"] = texts["message"][: limits.EXCEPTION_TEXT]
    texts["traceback"] = texts["traceback"][-limits.EXCEPTION_TEXT :]
    return texts


def read_progress(path: str) -> Optional[Dict[str, Any]]:
    """``{"fraction", "text"}`` as titan_job wrote it; None for other content."""
    found = _load(path)
    if not isinstance(found, dict):
        return None
    fraction, text = found.get("fraction"), found.get("text")
    if not isinstance(fraction, (int, float)):
        fraction = None
    return {"fraction": fraction, "text": str(text or "")[:4096]}


def _load(path: str) -> Any:
    if not os.path.exists(path):
        return None
    import json

    try:
        with open(path, encoding="ascii") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def check_result(place: JobDir) -> Tuple[int, Optional[str]]:
    """The size of the result (0 without one), and the reason why it cannot be used, or None."""
    path = place.path("result.json")
    if not os.path.exists(path):
        return 0, None
    import json

    try:
        size = os.path.getsize(path)
        if size > limits.RESULT_LIMIT:
            return 0, "its result has %d bytes; the limit is %d" % (size, limits.RESULT_LIMIT)
        if size <= limits.RESULT_CHECKED:
            with open(path, encoding="ascii") as file:
                json.load(file)
    except (OSError, ValueError, RecursionError) as exc:
        return 0, "its result is not JSON text (%s); write it with titan_job.result" % exc
    return size, None


def send_unsent(
    master: store.StoreConnection, place: JobDir, until: Callable[[], float], say: Callable[[str], None]
) -> None:
    """Upload a value that could not be the result, as artifacts. titan_job has named the files."""
    folder = place.path("unsent")
    if not os.path.isdir(folder):
        return
    for name in sorted(os.listdir(folder)):
        try:
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
            store.persist(partial(master.keep, name, data), until)
        except (OSError, store.StoreError) as exc:
            say("the artifact %s could not be kept: %s" % (name, exc))


def send_result(
    master: store.StoreConnection, record: Record, place: JobDir, until: Callable[[], float]
) -> Dict[str, Any]:
    """The result's part of the record. On a trusted master a small result is in the record itself; otherwise its slices
    are written here.
    """
    digest, count, size = sha256(), 0, 0
    with open(place.path("result.json"), encoding="ascii", errors="replace") as file:
        while True:
            piece = file.read(limits.RESULT_SLICE)
            if not piece:
                return {"chunks": count, "bytes": size, "sha256": digest.hexdigest()}
            if master.trusted and not count and len(piece) <= limits.RESULT_INLINE:
                digest.update(piece.encode("ascii", "replace"))
                return {"chunks": 0, "bytes": len(piece), "sha256": digest.hexdigest(), "text": piece}
            value = dumps({"v": 1, "data": piece})
            store.persist(partial(master.confirm, record.result_key(count), value), until)
            digest.update(piece.encode("ascii", "replace"))
            count += 1
            size += len(piece)
