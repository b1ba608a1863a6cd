"""RunSpec: the instructions for a job's launcher. They are checked here, because an error on the worker comes late."""

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
"""The largest packed script, in bytes, that travels inside the stub. A larger one is an asset, uploaded once per content."""

_NONCE = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Script:
    """The user's file: its base name, its kind, and its content (inline, an asset, or in an archive). Or a module, by name."""

    name: str
    kind: ScriptKind
    data: str | None = None
    asset: str | None = None
    sha256: str | None = None
    archive: str | None = None
    """The job's name for an uploaded zip. The asset, if there is one, is this zip. ``entry`` is the path inside the zip,
    or inside the run's project.
    """
    entry: str | None = None

    @classmethod
    def in_project(cls, entry: str) -> Script:
        """A file of the run's project."""
        name = PurePosixPath(entry).name
        return cls(name, cls.kind_of(name), entry=entry)

    @classmethod
    def module(cls, name: str) -> Script:
        """A module, run as by ``python -m name``."""
        return cls(name, "module")

    @classmethod
    def in_archive(cls, pointer: str, asset: str | None = None, sha256: str | None = None) -> Script:
        """The script at ``name.zip/path/in/zip.py``. The pointer is cut at the first ``.zip``, as in Titan.

        Without an asset, the zip is the file of that name at the job's start.
        """
        stem, _, entry = pointer.partition(".zip")
        entry = entry.lstrip("/")
        kind = cls.kind_of(entry)
        return cls(PurePosixPath(entry).name, kind, None, asset, sha256, f"{stem}.zip", entry)

    @classmethod
    def of(cls, name: str, content: bytes, kind: ScriptKind | None = None) -> tuple[Script, Asset | None]:
        """The script, and its asset if it needs one. The asset must be on the master before the submit.

        Without `kind` the name decides: ``.py`` and ``.sh`` as in Titan; any other file is executed directly. A first
        line that begins with ``#!`` overrides this on the worker.
        """
        kind = kind or cls.kind_of(name)
        packed = zlib.compress(content, 9)
        if len(packed) <= INLINE_LIMIT:
            return cls(name, kind, data=base64.b64encode(packed).decode("ascii")), None
        asset = blob_asset(content)
        return cls(name, kind, asset=asset.name, sha256=asset.sha256), asset

    @staticmethod
    def kind_of(name: str) -> ScriptKind:
        """The kind of a file of this name."""
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
    """A folder that travels as a zip: as one uploaded file, or in parts."""

    asset: str
    sha256: str
    bytes: int
    parts: tuple[str, ...] = ()
    """The SHA-256 of each part."""

    def to_dict(self) -> dict[str, object]:
        """The JSON form."""
        whole = {"asset": self.asset, "sha256": self.sha256, "bytes": self.bytes}
        return {**whole, "parts": list(self.parts)} if self.parts else whole


@dataclass(frozen=True, slots=True)
class Packages:
    """The requirements of the job's environment as JSON text, inline or as an asset. Workers name it by its SHA-256."""

    sha256: str
    inherit: bool = False
    data: str | None = None
    asset: str | None = None

    @classmethod
    def of(cls, requirements: Requirements, inherit: bool = False) -> tuple[Packages, Asset | None]:
        """The packages, and their asset if they need one. The asset must be on the master before the submit."""
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
    """The instructions of one submission for its launcher.

    Raises:
        InvalidJob: a field cannot be carried; the sentence names the field.
    """

    job_id: str
    """Full id, with ``DAG-``."""
    nonce: str
    """16 hex digits, new for each submission."""
    host: str
    """The master's address for workers."""
    port: int
    script: Script
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    params: Any = None
    python: str | None = None
    """Interpreter on the worker; None: the first ``python3`` or ``python`` >= 3.8 on its PATH."""
    max_attempts: int = 1
    timeout: float | None = None
    cancel_grace: float = CANCEL_GRACE
    """Seconds between SIGTERM and SIGKILL when the job is stopped."""
    owner_lease: float | None = None
    """Seconds after which the job ends unless its owner renews the lease."""
    inputs: tuple[Mapping[str, Any], ...] = ()
    """The files to put in place before the start, in the form of ``worker/files.py``."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Paths and patterns of the files to publish after success, by name."""
    packages: Packages | None = None
    """None: the job uses the worker's packages."""
    checkpoint: str | None = None
    """The key in TitanStore of a checkpoint that outlives the run; None: the run's own checkpoint."""
    keep_checkpoint: bool = False
    parents: Mapping[str, str] = field(default_factory=dict)
    """Parents in the same submission that use the runtime: full ids with their nonces."""
    project: Project | None = None
    cwd: str = "project"
    """The current folder of a job with a project: ``project`` (its root) or ``worker``."""

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
        """The spec as ASCII JSON, without fields that have their default.

        ``params`` is a JSON text inside the JSON, because the launcher passes it on without parsing.
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
        # Not one of the fields above, because those leave out a 0.
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
