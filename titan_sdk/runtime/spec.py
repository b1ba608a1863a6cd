"""What a job's launcher is told: a frozen value, checked here because the worker is the wrong place to find out."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from titan_sdk.errors import InvalidJob
from titan_sdk.model.requirements import Requirements
from titan_sdk.model.rules import CANCEL_GRACE
from titan_sdk.runtime.bundle import Asset, blob_asset

__all__ = ["INLINE_LIMIT", "Packages", "Project", "RunSpec", "Script", "ScriptKind"]

ScriptKind = Literal["python", "shell", "executable", "module"]

INLINE_LIMIT = 4096
"""Packed bytes up to which a script travels inside the stub; above it is an asset, uploaded once per content."""

_NONCE = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Script:
    """The user's file: its own base name, how it is started, and its content: inline, by asset, or in an archive. Or a
    module, whose name it has.
    """

    name: str
    kind: ScriptKind
    data: str | None = None
    asset: str | None = None
    sha256: str | None = None
    archive: str | None = None
    """The name that the job uses for an uploaded zip, which is the asset if there is one; and the path inside it, or
    inside the run's project.
    """
    entry: str | None = None

    @classmethod
    def in_project(cls, entry: str) -> Script:
        """A file of the run's project."""
        name = PurePosixPath(entry).name
        return cls(name, cls.kind_of(name), entry=entry)

    @classmethod
    def module(cls, name: str) -> Script:
        """What ``python -m name`` runs."""
        return cls(name, "module")

    @classmethod
    def in_archive(cls, pointer: str, asset: str | None = None, sha256: str | None = None) -> Script:
        """The script that ``name.zip/path/in/zip.py`` points to; cut at the first ``.zip``, as in Titan.

        Without an asset it is what stands under the name when the job starts.
        """
        stem, _, entry = pointer.partition(".zip")
        entry = entry.lstrip("/")
        kind = cls.kind_of(entry)
        return cls(PurePosixPath(entry).name, kind, None, asset, sha256, f"{stem}.zip", entry)

    @classmethod
    def of(cls, name: str, content: bytes, kind: ScriptKind | None = None) -> tuple[Script, Asset | None]:
        """The script, and the asset that must be on the master before the job is submitted, if it needs one.

        Without `kind` the name decides: ``.py`` and ``.sh`` as in Titan, anything else is executed directly. On the
        worker a first line that begins with ``#!`` goes before it.
        """
        kind = kind or cls.kind_of(name)
        packed = zlib.compress(content, 9)
        if len(packed) <= INLINE_LIMIT:
            return cls(name, kind, data=base64.b64encode(packed).decode("ascii")), None
        asset = blob_asset(content)
        return cls(name, kind, asset=asset.name, sha256=asset.sha256), asset

    @staticmethod
    def kind_of(name: str) -> ScriptKind:
        """How a file of this name is started."""
        suffixes: dict[str, ScriptKind] = {".py": "python", ".sh": "shell"}
        return suffixes.get(PurePosixPath(name).suffix, "executable")

    def to_dict(self) -> dict[str, str]:
        """The JSON form."""
        carried = (
            {"data": self.data}
            if self.data is not None
            else {"asset": self.asset, "sha256": self.sha256, "archive": self.archive, "entry": self.entry}
        )
        return {
            "name": self.name,
            "kind": self.kind,
            **{key: value for key, value in carried.items() if value},
        }


@dataclass(frozen=True, slots=True)
class Project:
    """A folder that travels as a zip: an uploaded file, or several that are its parts."""

    asset: str
    sha256: str
    bytes: int
    parts: tuple[str, ...] = ()
    """The SHA-256 of each."""

    def to_dict(self) -> dict[str, object]:
        """The JSON form."""
        whole = {"asset": self.asset, "sha256": self.sha256, "bytes": self.bytes}
        return {**whole, "parts": list(self.parts)} if self.parts else whole


@dataclass(frozen=True, slots=True)
class Packages:
    """What the job's environment is made of, as JSON text: inline, or by asset. Workers name it by its SHA-256."""

    sha256: str
    inherit: bool = False
    data: str | None = None
    asset: str | None = None

    @classmethod
    def of(cls, requirements: Requirements, inherit: bool = False) -> tuple[Packages, Asset | None]:
        """The packages, and the asset that must be on the master before the job is submitted, if they need one."""
        content = json.dumps(requirements.to_dict(), separators=(",", ":"), sort_keys=True).encode()
        asset = blob_asset(content)
        packed = zlib.compress(content, 9)
        if len(packed) <= INLINE_LIMIT:
            return cls(asset.sha256, inherit, data=base64.b64encode(packed).decode("ascii")), None
        return cls(asset.sha256, inherit, asset=asset.name), asset

    def to_dict(self) -> dict[str, object]:
        """The JSON form."""
        fields = {"sha256": self.sha256, "inherit": self.inherit, "data": self.data, "asset": self.asset}
        return {name: value for name, value in fields.items() if value}


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything one submission tells its launcher.

    Raises:
        InvalidJob: a field cannot be carried; the sentence names it.
    """

    job_id: str
    """Full id, with ``DAG-``."""
    nonce: str
    """16 hex digits, new for each submission."""
    host: str
    """Where workers reach the master."""
    port: int
    script: Script
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    params: Any = None
    python: str | None = None
    """Interpreter on the worker; None takes the first ``python3`` or ``python`` >= 3.8 on its PATH."""
    max_attempts: int = 1
    timeout: float | None = None
    cancel_grace: float = CANCEL_GRACE
    """Seconds between the SIGTERM and the SIGKILL with which the job is ended."""
    owner_lease: float | None = None
    """Seconds after which the job ends unless its owner renews the lease."""
    inputs: tuple[Mapping[str, Any], ...] = ()
    """What is put where before the start, as ``worker/files.py`` reads it."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Paths and patterns of what is published after success, by name."""
    packages: Packages | None = None
    """None runs the job with the packages that the worker has."""
    checkpoint: str | None = None
    """The key of TitanStore of a checkpoint that outlives the run; None is the run's own."""
    keep_checkpoint: bool = False
    parents: Mapping[str, str] = field(default_factory=dict)
    """Full ids of parents in the same submission that use the runtime, with their nonces."""
    project: Project | None = None
    cwd: str = "project"
    """Where a job with a project runs: ``project``, its root, or ``worker``."""

    def __post_init__(self) -> None:
        self._check_script()
        if not _NONCE.fullmatch(self.nonce):
            raise self._invalid("nonce", self.nonce, "is not 16 hex digits")
        if any("\0" in text for text in self.argv):
            raise self._invalid("args", self.argv, "contains a NUL character, which no process can be given")
        for name, value in self.env.items():
            if not name or "=" in name or "\0" in name + value:
                raise self._invalid("env", {name: value}, "cannot be an environment variable")
        if self.python is not None and (not self.python or not self.python.isprintable()):
            raise self._invalid("python", self.python, "is not the name or path of a program")
        if self.max_attempts < 1:
            raise self._invalid("max_attempts", self.max_attempts, "is not a whole number from 1 up")
        for name in ("timeout", "owner_lease"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise self._invalid(name, value, "is not a number of seconds above 0")
        self._params_text()

    def _check_script(self) -> None:
        name = self.script.name
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise self._invalid("filename", name, "is not the base name of a file")
        if len(name.encode("utf-8", "surrogateescape")) > 255:
            raise self._invalid("filename", name, "is longer than the 255 bytes a file name may have")

    def _params_text(self) -> str:
        try:
            return json.dumps(self.params, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as exc:
            raise self._invalid("params", self.params, f"is not JSON ({exc})") from exc

    def _invalid(self, name: str, value: object, problem: str) -> InvalidJob:
        shown = repr(value)
        return InvalidJob(
            f"job {self.job_id!r}: {name} {shown if len(shown) <= 200 else shown[:200] + '...'} {problem}"
        )

    def to_json(self, bundle: Asset) -> str:
        """ASCII JSON, without fields that have their default.

        ``params`` is JSON text inside it, which the launcher passes on without parsing.
        """
        optional = {
            "argv": list(self.argv),
            "env": dict(self.env),
            "python": self.python,
            "params": None if self.params is None else self._params_text(),
            "max_attempts": None if self.max_attempts == 1 else self.max_attempts,
            "timeout": self.timeout,
            "owner_lease": self.owner_lease,
            "inputs": [dict(each) for each in self.inputs],
            "outputs": dict(self.outputs),
            "packages": self.packages and self.packages.to_dict(),
            "checkpoint": self.checkpoint,
            "keep_checkpoint": self.keep_checkpoint,
            "parents": dict(self.parents),
            "project": self.project and self.project.to_dict(),
            "cwd": None if self.cwd == "project" else self.cwd,
        }
        # Not among those: its 0 says something.
        grace = {} if self.cancel_grace == CANCEL_GRACE else {"cancel_grace": self.cancel_grace}
        return json.dumps(
            {
                "v": 1,
                "id": self.job_id,
                "nonce": self.nonce,
                "master": [self.host, self.port],
                "runtime": {"asset": bundle.name, "sha256": bundle.sha256},
                "script": self.script.to_dict(),
                **{name: value for name, value in optional.items() if value},
                **grace,
            },
            separators=(",", ":"),
        )
