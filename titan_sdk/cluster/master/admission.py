"""The checks of a submission. It is accepted as a whole, or refused as a whole with a sentence.

A real master silently drops bad lines and cycles, and still answers ``DAG_ACCEPTED`` (protocol 4.1).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, TypeVarTuple, Unpack

from titan_sdk.cluster.engines.archives import ArchiveRefused, split_pointer
from titan_sdk.cluster.engines.staging import ARCHIVES, SERVICES, job_port
from titan_sdk.errors import PeerProtocolError
from titan_sdk.model.rules import INT32_MAX, INT32_MIN, check_requirement
from titan_sdk.wire.fields import decode_base64
from titan_sdk.wire.jobs import HEADERS, JobLine, LineError, parse_dag

__all__ = [
    "LARGE_JOBS",
    "MAX_DAG_JOBS",
    "SubmissionRefused",
    "check_dag",
    "check_graph",
    "check_job",
    "compute",
    "read_dag",
]

T = TypeVar("T")
Args = TypeVarTuple("Args")

MAX_DAG_JOBS = 20_000
LARGE_JOBS = 200
"""The number of jobs above which a thread checks a submission."""
_LARGE_PAYLOAD = 128 * 1024
_MAX_ID_BYTES = 1000
_MAX_NAME_BYTES = 200
_SCRIPT_SUFFIXES = (".py", ".sh")


class SubmissionRefused(Exception):
    """The refusal of a request. Its sentence is sent to the client behind ``ERROR: ``."""


async def check_dag(
    payload: str, numbers: Callable[[Sequence[str]], Awaitable[dict[str, int]]]
) -> tuple[list[JobLine], dict[str, int]]:
    """The checked jobs of a SUBMIT_DAG payload, and the numbers of parents outside it.

    Args:
        numbers: looks up the numbers of ids that were ever submitted.

    Raises:
        SubmissionRefused: no job of the payload may be carried out.
    """
    # The size is known without parsing.
    large = len(payload) > _LARGE_PAYLOAD or payload.count(";") >= LARGE_JOBS
    lines = await compute(read_dag, payload, in_thread=large)
    outside = _foreign_parents(lines)
    known = await numbers(outside) if outside else {}
    await compute(check_graph, lines, known.__contains__, in_thread=large)
    return lines, known


async def compute(work: Callable[[Unpack[Args]], T], *args: *Args, in_thread: bool) -> T:
    """The result of ``work``, computed in a thread if it is long. Short work is faster than a thread."""
    return await asyncio.to_thread(work, *args) if in_thread else work(*args)


def read_dag(payload: str) -> list[JobLine]:
    """The jobs of a SUBMIT_DAG payload, each checked on its own.

    Raises:
        SubmissionRefused: a line is wrong, so no job of the payload may be carried out.
    """
    lines: list[JobLine] = []
    for number, line in enumerate(parse_dag(payload), start=1):
        if isinstance(line, LineError):
            shown = line.text if len(line.text) <= 60 else line.text[:57] + "..."
            raise SubmissionRefused(f"line {number} ({shown!r}) cannot be read: {line.reason}")
        _check_line(f"line {number} (job {line.job_id!r})", line)
        lines.append(line)
    if not lines:
        raise SubmissionRefused(
            "the DAG has no jobs; send lines of the form id|RUN_PAYLOAD|...|priority|delay|[parents]"
        )
    if len(lines) > MAX_DAG_JOBS:
        raise SubmissionRefused(
            f"the DAG has {len(lines):,} jobs; the limit is {MAX_DAG_JOBS:,}: submit it in parts"
        )
    return lines


def check_job(payload: str) -> JobLine:
    """The job of a SUBMIT_JOB payload: ``[id|]HEADER|...[|priority|delay_ms]`` (protocol section 4.7).

    Raises:
        SubmissionRefused: it is not a job.
    """
    parts = payload.strip().split("|")
    numbers: list[int] = []
    while len(numbers) < 2 and len(parts) > 1 and (number := _number(parts[-1])) is not None:
        numbers.insert(0, number)
        parts.pop()
    delay = numbers.pop() if numbers else 0
    priority = numbers.pop() if numbers else 1
    job_id = str(uuid.uuid4()) if parts[0].strip() in HEADERS else parts.pop(0).strip()
    if not parts or parts[0].strip() not in HEADERS:
        raise SubmissionRefused(
            "this is not a job; send id|RUN_PAYLOAD|file|args|base64|requirement|priority|delay, "
            "or submit it as a DAG of one job"
        )
    if not INT32_MIN <= priority <= INT32_MAX:
        raise SubmissionRefused(f"job {job_id!r}: priority {priority} is not a 32-bit integer")
    line = JobLine(job_id, parts[0].strip(), tuple(parts[1:]), priority, delay)
    _check_line(f"job {job_id!r}", line)
    return line


# ---------------------------------------------------------------------- one line


def _check_line(where: str, line: JobLine) -> None:
    if line.job_id in {"", "DAG-"}:
        raise SubmissionRefused(f"{where}: the id is empty; give the job a name")
    if len(line.job_id.encode()) > _MAX_ID_BYTES:
        raise SubmissionRefused(
            f"{where[:80]}...: the id is longer than {_MAX_ID_BYTES} bytes; give a shorter one"
        )
    if line.header not in HEADERS:
        raise SubmissionRefused(
            f"{where}: {line.header[:40]!r} is no kind of job; use one of {', '.join(HEADERS)}"
        )
    wanted = HEADERS[line.header]
    if len(line.fields) != len(wanted):
        raise SubmissionRefused(
            f"{where}: {line.header} has {len(line.fields)} fields where {len(wanted)} are expected "
            f"({'|'.join(wanted)}); none of them may contain '|'"
        )
    requirement = line.fields[-1].strip()
    problem = check_requirement(requirement) if requirement else None
    if problem is not None:
        raise SubmissionRefused(f"{where}: requirement {requirement[:60]!r} {problem}")
    if "\0" in line.args:
        raise SubmissionRefused(f"{where}: args contain a NUL character, which no process can be given")
    if line.header in ARCHIVES:
        _check_pointer(where, line.filename.strip())
    else:
        _check_script(where, line)
    if line.header in SERVICES and job_port(line) is None:
        raise SubmissionRefused(f"{where}: port {line.port[:20]!r} is not a number from 0 to 65535")


def _check_script(where: str, line: JobLine) -> None:
    name = line.filename.strip()
    if not name or name in {".", ".."} or "/" in name or "\0" in name:
        raise SubmissionRefused(
            f"{where}: filename {name[:60]!r} is not a plain file name; send the base name only"
        )
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise SubmissionRefused(
            f"{where}: the filename is longer than {_MAX_NAME_BYTES} bytes; send a shorter one"
        )
    if line.header not in SERVICES and not name.endswith(_SCRIPT_SUFFIXES):
        raise SubmissionRefused(
            f"{where}: filename {name!r} ends neither in .py nor in .sh; workers run no other files"
        )
    try:
        decode_base64(line.content_b64.strip())
    except PeerProtocolError as exc:
        raise SubmissionRefused(
            f"{where}: the script is not base64 ({exc}); check the order of the fields"
        ) from exc


def _check_pointer(where: str, pointer: str) -> None:
    try:
        name, entry = split_pointer(pointer)
    except ArchiveRefused as exc:
        raise SubmissionRefused(f"{where}: filename {exc}") from exc
    parts = (name, *entry.split("/"))
    if "/" in name or ".." in parts or "\0" in pointer:
        raise SubmissionRefused(
            f"{where}: filename {pointer[:60]!r} leaves the archive; name a file inside it"
        )
    if not entry.endswith(_SCRIPT_SUFFIXES):
        raise SubmissionRefused(f"{where}: the entry {entry[:60]!r} ends neither in .py nor in .sh")


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20 else None


# ---------------------------------------------------------------------- the graph


def _foreign_parents(lines: Sequence[JobLine]) -> list[str]:
    """The parents outside the payload, each once."""
    own = {line.job_id for line in lines}
    return list({parent: None for line in lines for parent in line.parents if parent not in own})


def check_graph(lines: Sequence[JobLine], known: Callable[[str], bool]) -> None:
    """Check the graph: ids are unique, parents exist, and there is no cycle.

    Args:
        known: whether an id was ever submitted. Parents outside the payload must be known.

    Raises:
        SubmissionRefused: as for ``read_dag``.
    """
    by_id: dict[str, JobLine] = {}
    for number, line in enumerate(lines, start=1):
        if line.job_id in by_id:
            raise SubmissionRefused(
                f"line {number}: the id {line.job_id!r} occurs twice; give every job its own"
            )
        by_id[line.job_id] = line
    for number, line in enumerate(lines, start=1):
        for parent in line.parents:
            if parent not in by_id and not known(parent):
                raise SubmissionRefused(
                    f"line {number} (job {line.job_id!r}): the parent {parent!r} is neither in this DAG nor was it "
                    "submitted before; correct the name, or submit the parent first"
                )
    cycle = _find_cycle(by_id)
    if cycle:
        shown = " -> ".join(cycle[:10]) + (" -> ..." if len(cycle) > 10 else "")
        raise SubmissionRefused(f"the parents form a cycle ({shown}); remove one of these dependencies")


def _find_cycle(by_id: dict[str, JobLine]) -> list[str]:
    """The ids of one cycle, with the first one repeated at the end; empty without a cycle."""
    if not any(line.parents for line in by_id.values()):
        return []
    left = {job_id: {p for p in line.parents if p in by_id} for job_id, line in by_id.items()}
    children: dict[str, list[str]] = {}
    for job_id, parents in left.items():
        for parent in parents:
            children.setdefault(parent, []).append(job_id)
    free = [job_id for job_id, parents in left.items() if not parents]
    while free:
        done = free.pop()
        del left[done]
        for child in children.get(done, ()):
            left[child].discard(done)
            if not left[child]:
                free.append(child)
    return _walk(left) if left else []


def _walk(left: dict[str, set[str]]) -> list[str]:
    """Walk from parent to parent. Every job in ``left`` has a parent in it, so the walk must meet a job twice."""
    seen: dict[str, None] = {}
    at = min(left)
    while at not in seen:
        seen[at] = None
        at = min(left[at])
    path = list(seen)
    return [*path[path.index(at) :], at]
