"""The SDK's keys and values of jobs and DAGs in TitanStore, as far as retention needs them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from titan_sdk.errors import CorruptData
from titan_sdk.model.rules import full_id
from titan_sdk.runtime.keys import run_artifacts
from titan_sdk.wire.fields import MARK, decode_value, encode_key

__all__ = [
    "MANIFESTS",
    "Manifest",
    "artifacts_of",
    "dag_of",
    "is_failed_for_good",
    "is_job",
    "is_of_later_submission",
    "known_as",
    "latest_of",
    "logs_to_master",
    "manifest_named",
    "nonce_of",
    "read_manifest",
    "record_key",
    "run_key",
    "run_prefix",
]

_DAG = "titan:dag:"
_RUN = re.compile(r"titan:run:(.+):([0-9a-f]{16}):state", re.DOTALL)
MANIFESTS = (_DAG, f'{MARK}"{_DAG}')
"""The prefixes of manifest keys and of the keys of a DAG's latest run; the second is for escaped names."""


def record_key(job_id: str) -> str:
    """The key of a job's record."""
    return encode_key(f"titan:job:{job_id}")


def run_prefix(job_id: str, nonce: str | None = None) -> str:
    """The prefix of the keys of a job's runs, or of one submission's run."""
    # An encoded key ends with a quote, which is not a part of the prefix.
    return encode_key(f"titan:run:{job_id}:{f'{nonce}:' if nonce else ''}").removesuffix('"')


def run_key(job_id: str, nonce: str) -> str:
    """The key of the runtime's record of a submission."""
    return encode_key(f"titan:run:{job_id}:{nonce}:state")


def artifacts_of(key: str) -> str | None:
    """How the artifacts of a run are called, from the key of its record; ``None`` if the key is another one."""
    found = _RUN.fullmatch(_plain(key))
    return run_artifacts(found[1], found[2]) if found else None


def logs_to_master(record: str | None) -> bool:
    """Whether a run's output is in the master's log, and not in chunks."""
    return _field(record, "log") == "master"


def is_failed_for_good(record: str | None) -> bool:
    """Whether the last allowed run of a job has failed."""
    return _field(record, "state") == "failed" and _field(record, "last") is True


def latest_of(key: str) -> str | None:
    """The key with the name of the DAG's latest manifest; ``None`` if the given key is such a key."""
    name, colon, _ = _plain(key).removeprefix(_DAG).partition(":")
    return encode_key(_DAG + name) if colon else None


def dag_of(key: str) -> tuple[str, str] | None:
    """A manifest's DAG and run; ``None`` if the key is not a manifest's."""
    plain = _plain(key)
    name, colon, run = plain.removeprefix(_DAG).partition(":")
    if not (plain.startswith(_DAG) and colon):
        return None
    # A row cannot hold lone surrogates.
    name, run = (text.encode("utf-8", "replace").decode() for text in (name, run))
    return name.replace("%3A", ":").replace("%25", "%"), run


def is_job(dag: str, job_ids: Sequence[str]) -> bool:
    """Whether a DAG is a single submitted job."""
    return len(job_ids) == 1 and full_id(job_ids[0]) == full_id(dag)


def manifest_named(latest: str, value: str) -> str | None:
    """The key of the DAG's latest manifest, from the stored value; ``None`` if the SDK did not write the value."""
    run = _field(value, "run")
    return encode_key(f"{_plain(latest)}:{run}") if isinstance(run, str) else None


@dataclass(frozen=True, slots=True)
class Manifest:
    submitted_at: float
    """By the client's clock."""
    jobs: tuple[tuple[str, str | None], ...]
    """Id and nonce of each."""

    @property
    def ids(self) -> list[str]:
        return [job_id for job_id, _ in self.jobs]


def read_manifest(text: str) -> Manifest | None:
    """The manifest of a text; ``None`` if the SDK did not write it."""
    at, listed = _field(text, "submitted_at"), _field(text, "jobs")
    if not isinstance(at, int | float) or not isinstance(listed, list):
        return None
    try:
        return Manifest(at, tuple((str(entry["id"]), entry.get("nonce")) for entry in listed))
    except (TypeError, KeyError, AttributeError):
        return None


def known_as(job_id: str) -> tuple[str, ...]:
    """The ids under which a master may know a job; the usual one comes first."""
    full = full_id(job_id)
    return (full,) if full == job_id else (full, job_id)


def nonce_of(record: str | None) -> str | None:
    """The nonce in a job's record."""
    nonce = _field(record, "nonce")
    return nonce if isinstance(nonce, str) else None


def is_of_later_submission(record: str | None, ended_at: float | None) -> bool:
    """Whether a record belongs to a submission that began after the job's end, by the client's clock."""
    at = _field(record, "submitted_at")
    return isinstance(at, int | float) and at > (ended_at or 0.0)


def _plain(key: str) -> str:
    try:
        return decode_value(key)
    except CorruptData:
        return key


def _field(text: str | None, name: str) -> object:
    try:
        return json.loads(text).get(name) if text is not None else None
    except (ValueError, AttributeError, RecursionError):
        return None
