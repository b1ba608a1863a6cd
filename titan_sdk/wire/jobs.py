"""Job lines, the parts of a SUBMIT_DAG payload (protocol section 4), written and read.

``encode_*`` is the client's half. It refuses fields that the grammar cannot carry. ``parse_*`` is the master's half. It
reads as a real master does, from the outside in, hazards included.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from titan_sdk.errors import LocalProtocolError
from titan_sdk.model.rules import INT32_MAX, INT32_MIN, INT64_MAX, full_id

__all__ = [
    "DEPLOY_PAYLOAD",
    "HEADERS",
    "RUN_ARCHIVE",
    "RUN_PAYLOAD",
    "START_ARCHIVE_SERVICE",
    "JobLine",
    "LineError",
    "dump_line",
    "encode_dag",
    "encode_line",
    "load_line",
    "parse_dag",
    "parse_line",
]

RUN_PAYLOAD = "RUN_PAYLOAD"
DEPLOY_PAYLOAD = "DEPLOY_PAYLOAD"
RUN_ARCHIVE = "RUN_ARCHIVE"
START_ARCHIVE_SERVICE = "START_ARCHIVE_SERVICE"
HEADERS: dict[str, tuple[str, ...]] = {
    RUN_PAYLOAD: ("filename", "args", "content_b64", "requirement"),
    DEPLOY_PAYLOAD: ("filename", "content_b64", "port", "requirement"),
    RUN_ARCHIVE: ("filename", "args", "requirement"),
    START_ARCHIVE_SERVICE: ("filename", "args", "port", "requirement"),
}
"""The body fields of each header, in order, as the upstream SDK sends them."""

_INT = re.compile(r"[+-]?\d+")
_MOST_DIGITS = len(str(INT64_MAX))
_FLAGS = ("|AFFINITY", "|STICKY")


class JobLine(NamedTuple):
    """One job as the wire carries it. Ids and parents are full (``DAG-...``).

    A tuple, because lines are made and pickled by the thousand, and a frozen dataclass takes twice as long.
    """

    job_id: str
    header: str
    fields: tuple[str, ...]
    priority: int = 1
    delay_ms: int = 0
    parents: tuple[str, ...] = ()
    affinity: bool = False

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        # The default of a named tuple takes 1.5 times as long, and a job on Ray is pickled at every hop.
        return JobLine, tuple(self)

    def field(self, name: str) -> str:
        """The body field ``name``. An empty text if the header has no such field, or the line is too short."""
        names = HEADERS.get(self.header, ())
        if name not in names:
            return ""
        index = names.index(name)
        return self.fields[index] if index < len(self.fields) else ""

    @property
    def filename(self) -> str:
        return self.field("filename")

    @property
    def args(self) -> str:
        return self.field("args")

    @property
    def content_b64(self) -> str:
        return self.field("content_b64")

    @property
    def port(self) -> str:
        return self.field("port")

    @property
    def requirement(self) -> str:
        """The tag a worker must have, found as a real master finds it (section 4.3)."""
        if "INTERNAL_SCALE" in "|".join((self.header, *self.fields, self.job_id)):
            return "GENERAL"
        if self.header not in HEADERS:
            # Without a header word among the first fields, the first field is the capability.
            return self.header.strip()
        for text in (part.strip() for part in reversed(self.fields)):
            if text in {full_id(self.job_id), "AFFINITY"} or _bracketed(text) or _INT.fullmatch(text):
                continue
            return text if 0 < len(text) < 20 and not text.endswith("=") else "GENERAL"
        return "GENERAL"


@dataclass(frozen=True, slots=True)
class LineError:
    """A line that does not parse. A real master drops it silently (section 4.1)."""

    text: str
    reason: str

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 80 else self.text[:77] + "..."
        return f"line {shown!r}: {self.reason}"


def encode_line(line: JobLine) -> str:
    """The line as text, which every master reads back unchanged.

    Raises:
        LocalProtocolError: a master would read another line; the sentence names the field.
    """
    parents = ",".join(line.parents)
    body = "|".join((line.job_id, line.header, *line.fields))
    text = f"{body}|{line.priority}|{line.delay_ms}|[{parents}]{'|AFFINITY' if line.affinity else ''}"
    if not _is_plain(line, text):
        _check_fields(line)
        _check_read_back(line, text)
    return text


_PLAIN_IDS = re.compile(r"[A-Za-z0-9._-]+(?:,[A-Za-z0-9._-]+)*")


def _is_plain(line: JobLine, text: str) -> bool:
    """Whether no part of the line can be misread, as in almost every line. Reading it back costs five times the writing."""
    ids = ",".join((line.job_id, *line.parents))
    return (
        line.header in HEADERS
        and len(line.fields) == len(HEADERS[line.header])
        and text.count("|") == len(line.fields) + (5 if line.affinity else 4)
        and ";" not in text
        and type(line.priority) is type(line.delay_ms) is int
        and INT32_MIN <= line.priority <= INT32_MAX
        and -INT64_MAX <= line.delay_ms <= INT64_MAX
        and _is_plain_tag(line.fields[-1])
        and ids.count(",") == len(line.parents)
        and _PLAIN_IDS.fullmatch(ids) is not None
        and "INTERNAL_SCALE" not in text
    )


@functools.lru_cache(maxsize=256)
def _is_plain_tag(tag: str) -> bool:
    return tag != "AFFINITY" and re.fullmatch(r"[A-Z_]{1,19}", tag) is not None


def _check_fields(line: JobLine) -> None:
    names = HEADERS.get(line.header, ())
    if not names or len(line.fields) != len(names):
        raise LocalProtocolError(
            f"job {line.job_id!r}: header {line.header!r} does not go with {len(line.fields)} fields"
        )
    for name, text in zip(names, line.fields, strict=True):
        if "|" in text or ";" in text:
            raise LocalProtocolError(f"job {line.job_id!r}: {name} {text[:60]!r} contains '|' or ';'")
    for text in (line.job_id, *line.parents):
        if any(c in text for c in "|;,[]"):
            raise LocalProtocolError(
                f"job {line.job_id!r}: id {text!r} contains a delimiter of the job grammar"
            )


_COMPARED = ("job_id", "header", "fields", "priority", "delay_ms", "parents", "affinity")


def _compared(line: JobLine, job_id: str, parents: tuple[str, ...]) -> tuple[object, ...]:
    return (job_id, line.header, line.fields, line.priority, line.delay_ms, parents, line.affinity)


def _check_read_back(line: JobLine, text: str) -> None:
    read = parse_line(text)
    if isinstance(read, LineError):
        raise LocalProtocolError(f"job {line.job_id!r}: {read.reason}")
    # Ids without DAG- are allowed: the master adds the prefix.
    meant = _compared(line, full_id(line.job_id), tuple(map(full_id, line.parents)))
    found = _compared(read, read.job_id, read.parents)
    if meant != found:
        name, wanted, got = next(
            both for both in zip(_COMPARED, meant, found, strict=True) if both[1] != both[2]
        )
        raise LocalProtocolError(f"job {line.job_id!r}: a master would read {name} {wanted!r} as {got!r}")
    tag = line.field("requirement").strip()
    if line.requirement != tag:
        raise LocalProtocolError(
            f"job {line.job_id!r}: a master would read requirement {tag!r} as {line.requirement!r}"
        )


def encode_dag(lines: Iterable[JobLine]) -> str:
    """A SUBMIT_DAG payload. Children must come before their parents: a real master registers line by line (section 14)."""
    return " ; ".join(encode_line(line) for line in lines)


def parse_dag(payload: str) -> list[JobLine | LineError]:
    """The non-empty lines of a payload, in order: each as a job, or as the error that it has."""
    found: list[JobLine | LineError] = []
    for part in payload.split(";"):
        text = part.strip()
        if text:
            found.append(parse_line(text))
    return found


def parse_line(text: str) -> JobLine | LineError:
    """Read one line, outside in (section 4.1)."""
    rest = text.strip()
    affinity = rest.endswith(_FLAGS)
    if affinity:
        rest = rest.rpartition("|")[0]
    head, bracket, tail = rest.rpartition("[")
    if not bracket:
        return LineError(text, "the parent list is missing; end the line with [] or [parent,...]")
    parents = tuple(full_id(p) for p in (part.strip() for part in tail.replace("]", "").split(",")) if p)
    head = head.rstrip()
    head = head.removesuffix("|")
    head, _, delay_text = head.rpartition("|")
    head, _, priority_text = head.rpartition("|")
    priority, delay = (
        _integer(priority_text, INT32_MIN, INT32_MAX),
        _integer(delay_text, -INT64_MAX - 1, INT64_MAX),
    )
    if priority is None:
        return LineError(text, f"the priority {priority_text.strip()[:40]!r} is not a 32-bit integer")
    if delay is None:
        return LineError(text, f"the delay {delay_text.strip()[:40]!r} is not a 64-bit integer")
    parts = head.split("|")
    if len(parts) < 3:
        return LineError(
            text, "there are fewer than three fields before the priority; expected id|HEADER|body"
        )
    job_id, header, *fields = parts
    return _normalised(
        full_id(job_id.strip()), header.strip(), tuple(fields), priority, delay, parents, affinity
    )


def _normalised(
    job_id: str,
    header: str,
    fields: tuple[str, ...],
    priority: int,
    delay: int,
    parents: tuple[str, ...],
    affinity: bool,
) -> JobLine:
    """Accepts ``id|SKILL|HEADER|...``: a real master finds the header among the first three fields (4.2, 4.3)."""
    for index, text in enumerate((header, *fields[:2])):
        if text.strip() in HEADERS:
            header, fields = text.strip(), fields[index:]
            break
    return JobLine(job_id, header, fields, priority, delay, parents, affinity)


def _integer(text: str, low: int, high: int) -> int | None:
    text = text.strip()
    if not _INT.fullmatch(text) or not text.isascii():
        return None
    digits = text.lstrip("+-0")
    if len(digits) > _MOST_DIGITS:
        return None  # Python refuses thousands of digits
    value = -int(digits or 0) if text.startswith("-") else int(digits or 0)
    return value if low <= value <= high else None


def _bracketed(text: str) -> bool:
    return text.startswith("[") and text.endswith("]")


# ---------------------------------------------------------------------- a single line, as stores and Ray nodes hold it

_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dump_line(line: JobLine) -> str:
    """The stored form, which gives back exactly this line. The wire's form would prefix every id."""
    return _dump([line.header, line.fields, line.priority, line.delay_ms, line.parents, line.affinity])


def load_line(job_id: str, text: str) -> JobLine:
    """The reverse of ``dump_line``."""
    header, fields, priority, delay_ms, parents, affinity = json.loads(text)
    return JobLine(job_id, header, tuple(fields), priority, delay_ms, tuple(parents), affinity)
