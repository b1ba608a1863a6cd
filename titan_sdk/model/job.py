"""TitanJob: the description of a job for a Titan cluster. A frozen value; the constructor reads and sends nothing."""

from __future__ import annotations

import base64
import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from titan_sdk.errors import InvalidArgument, InvalidJob, MissingFile
from titan_sdk.model import rules
from titan_sdk.model.durations import parse_duration

if TYPE_CHECKING:
    from titan_sdk.model.files import Outputs

__all__ = ["JobKind", "TitanJob", "inline_name"]


_SERVICE_TYPES = frozenset({"SERVICE", "DEPLOY_PAYLOAD", "START_ARCHIVE_SERVICE"})
_TASK_TYPES = frozenset({"RUN_PAYLOAD", "TASK", "RUN_ARCHIVE"})


_NO_PYTHON = frozenset(
    {"sh", "bash", "dash", "zsh", "ksh", "csh", "tcsh", "fish", "env", "perl", "ruby", "node"}
)
_RUNTIME_FIELDS = (
    *("params", "env", "python", "max_attempts", "timeout", "owner_lease", "cancel_grace"),
    *("project", "module", "inputs", "outputs", "requirements", "inherit_packages", "serializer"),
    *("checkpoint_key", "keep_checkpoint"),
)
"""Fields that only the runtime carries."""
_SHOWN = 200
"""Number of a value's characters that an error message shows."""


class JobKind(Enum):
    """The four kinds of work on a master. Each is a header of the job line (section 4)."""

    SCRIPT = "RUN_PAYLOAD"
    SERVICE = "DEPLOY_PAYLOAD"
    ARCHIVE = "RUN_ARCHIVE"
    ARCHIVE_SERVICE = "START_ARCHIVE_SERVICE"

    @property
    def is_service(self) -> bool:
        return self in {JobKind.SERVICE, JobKind.ARCHIVE_SERVICE}

    @property
    def is_archive(self) -> bool:
        return self in {JobKind.ARCHIVE, JobKind.ARCHIVE_SERVICE}


@dataclass(frozen=True)
class TitanJob:
    """A unit of work.

    Args:
        job_id: letters, digits, ``.``, ``_``, ``-``; at most 200. With or without Titan's ``DAG-`` prefix. Ids are
            global on a master and permanent: use a new one for each run unless you mean "run that again".
        filename: path of the script, checked now and read at submission; for archives ``name.zip/entry.py``. With
            ``source``, the script's name on the worker and in tracebacks; with ``project``, a path in the project.
        job_type: ``RUN_PAYLOAD``, or ``SERVICE`` for a long-running process that listens on ``port``.
        args: command-line arguments. A list arrives exactly. A string is split at spaces, as Titan does, and
            otherwise unchanged: quotes are kept. Numbers, booleans and paths become texts by ``str()``.
        parents: ids of jobs that must complete first.
        port: the port of a service (1-65535). The script must know it, because a real master passes no arguments.
        is_archive: ``filename`` points into a zip uploaded with ``upload_project_folder``.
        priority: higher runs first (signed 32-bit).
        delay: milliseconds from submission, not from the last parent's end. Like every duration here, also a text
            (``10m``, ``1h30m``, ``500ms``, ``2d``) or a timedelta.
        affinity: prefer the worker of the parent that completed first.
        requirement: the tag that a worker must have; case-sensitive, at most 19 characters.
        source: the script itself instead of a file. It travels byte for byte, a text as UTF-8. Without a
            ``filename`` it is named after the job, and ends with ``.sh`` if its ``#!`` line names a shell, otherwise
            with ``.py``.
        module: a module of the project or of the worker, run as by ``python -m``, in place of a file.
        project: a folder that is packed at submission and travels with the job. Its root is on ``sys.path`` of the
            job and of every Python that the job starts, and ``TITAN_PROJECT_DIR`` names it. Equal folders are uploaded
            once per master. Files that its ``.titanignore`` names do not travel; without a ``.titanignore``, its
            ``.gitignore`` counts. Each attempt has its own copy, which is removed with the attempt. At most 1 GiB and
            20,000 files; needs the runtime.
        cwd: the current folder of a job with a project: ``project``, its root, or ``worker``, the worker's own.
        script_content: upstream's name for ``source``. Its value moves to ``source``, and it is ``None`` afterwards.
        params: a value of any type in docs/values.md. The script reads it as ``titan_job.params``.
        serializer: ``cloudpickle`` pickles ``params``; both ends need it, and the same version of Python.
        env: environment variables in addition to the worker's; numbers and booleans as in ``args``. They travel in the
            job's payload. On a master without authentication everybody can read them, so put no secrets into them.
        inputs: files that are put in place before the script starts, by path relative to its folder. Each is a reference
            (``report.outputs``, ``upload_file``), ``titan://KEY`` for a file published under that key, or
            ``other.output["model"]`` of an earlier job, which becomes a parent of this job. A path that ends with ``/``
            is a folder: a zip is unpacked into it, and several files keep their names.
        outputs: the script's output files, by name: a path, a pattern (``plots/*.png``), or a folder, which ends with
            ``/``. After success they are artifacts of the run, and ``JobReport.outputs`` has their references. A missing
            output fails the job. A job with inputs or outputs but no project runs in a folder of its own.
        checkpoint_key: the key of the job's checkpoint (``titan_job.checkpoint``). All jobs with this key share it, in
            later submissions too; without a key, only the attempts of one submission do. Two jobs that run at the same
            time need different keys.
        keep_checkpoint: keep the checkpoint after the job's success.
        runtime: send the small runtime with the job. It carries all of the above exactly, and brings result, exit code,
            signal and logs back. ``False`` sends what the upstream SDK would send (docs/runtime.md lists the losses).
        python: interpreter on the worker; by default the first ``python3`` or ``python`` >= 3.8 on its PATH.
        requirements: the packages that the job needs beside Python: a list (``["numpy>=2", "pandas"]``), or the path of a
            ``requirements.txt``, ``pylock.toml``, ``uv.lock`` or ``pyproject.toml``, read and checked at submission. The
            worker builds an environment with them once, for all jobs with the same requirements. Without this field, the
            block at the head of a Python script counts (PEP 723). With an empty list the job has no environment.
        inherit_packages: the environment also sees the worker's packages, such as a GPU image's torch.
        max_attempts: the greatest number of starts of the script; default 1 with the runtime. Without the runtime the
            master decides, and a real one runs a failing script four times.
        timeout: seconds that the script may run; then its whole process tree is ended. The build of the job's
            environment does not count.
        cancel_grace: seconds from 0 to 3600 between SIGTERM and SIGKILL when the job is stopped by a cancel, its
            ``timeout`` or its ``owner_lease``. Values other than the default need the runtime.
        owner_lease: seconds after which the job is ended unless its owner calls ``renew_owner_lease`` again.
        hitl_message: the question to a person after the job has completed. The jobs that depend on this one wait for an
            approval (``TitanClient.approve``, ``titan approvals``, Titan's dashboard). After a rejection, or after
            ``max_wait_seconds``, they do not run. A waiting gate occupies a worker's slot.
        max_wait_seconds: see ``hitl_message``.

    Raises:
        InvalidJob: a field cannot be carried; the sentence names the field and the fix.
        MissingFile: the script does not exist.
    """

    job_id: str
    filename: str = ""
    job_type: str = "RUN_PAYLOAD"
    args: str | float | Sequence[str | float] | None = None
    parents: Sequence[str] | None = None
    port: int = 0
    is_archive: bool = False
    priority: int = 1
    delay: int | str | timedelta = 0
    affinity: bool = False
    requirement: str = "GENERAL"
    source: str | bytes | None = field(default=None, kw_only=True, repr=False)
    script_content: str | bytes | None = field(default=None, kw_only=True, repr=False)
    module: str | None = field(default=None, kw_only=True)
    project: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    cwd: str = field(default="project", kw_only=True)
    params: Any = field(default=None, kw_only=True)
    serializer: str = field(default="json", kw_only=True)
    env: Mapping[str, str | float] | None = field(default=None, kw_only=True)
    inputs: Mapping[str, Any] | None = field(default=None, kw_only=True)
    outputs: Mapping[str, str] | None = field(default=None, kw_only=True)
    checkpoint_key: str | None = field(default=None, kw_only=True)
    keep_checkpoint: bool = field(default=False, kw_only=True)
    runtime: bool = field(default=True, kw_only=True)
    python: str | None = field(default=None, kw_only=True)
    requirements: Sequence[str] | str | os.PathLike[str] | None = field(default=None, kw_only=True)
    inherit_packages: bool = field(default=False, kw_only=True)
    max_attempts: int | None = field(default=None, kw_only=True)
    timeout: float | str | timedelta | None = field(default=None, kw_only=True)
    cancel_grace: float | str | timedelta = field(default=rules.CANCEL_GRACE, kw_only=True)
    owner_lease: float | str | timedelta | None = field(default=None, kw_only=True)
    hitl_message: str | None = field(default=None, kw_only=True)
    max_wait_seconds: int | str | timedelta = field(default=172800, kw_only=True)

    def __post_init__(self) -> None:
        self._normalise()
        self._check_ways()
        self._check_names()
        self._check_numbers()
        self._check_carriers()
        self._check_project()
        if self.reads_file:
            self._check_file()

    # -- identity ---------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The id as given, under the name that upstream's SDK has for it."""
        return self.job_id

    @functools.cached_property
    def full_id(self) -> str:
        """The id as the master knows it, with ``DAG-``."""
        return rules.full_id(self.job_id)

    @functools.cached_property
    def parent_ids(self) -> tuple[str, ...]:
        """Full ids of the parents, each once, because a real master never satisfies ``[a,a]`` (section 4.6)."""
        return tuple(dict.fromkeys(rules.full_id(p) for p in self.parents or ()))

    @property
    def delay_ms(self) -> int:
        """The delay in milliseconds, as the master gets it."""
        return cast(int, self.delay)

    @property
    def timeout_seconds(self) -> float | None:
        """The timeout in seconds."""
        return cast("float | None", self.timeout)

    @property
    def grace_seconds(self) -> float:
        """The grace of a cancel in seconds."""
        return float(cast(float, self.cancel_grace))

    @property
    def owner_lease_seconds(self) -> float | None:
        """The owner's lease in seconds."""
        return cast("float | None", self.owner_lease)

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables, as texts."""
        return cast("dict[str, str]", dict(self.env or {}))

    @functools.cached_property
    def kind(self) -> JobKind:
        """The kind of work, from ``job_type`` and ``is_archive``."""
        service = self.job_type in _SERVICE_TYPES
        if self.is_archive:
            return JobKind.ARCHIVE_SERVICE if service else JobKind.ARCHIVE
        return JobKind.SERVICE if service else JobKind.SCRIPT

    @property
    def archive_name(self) -> str:
        """The uploaded zip that an archive job's ``filename`` points into; Titan cuts at the first ``.zip``."""
        return self.filename.partition(".zip")[0] + ".zip"

    @property
    def reads_file(self) -> bool:
        """Whether the job runs a single file, which travels alone."""
        return (
            not self.kind.is_archive and self.source is None and self.module is None and self.project is None
        )

    @property
    def project_key(self) -> str | None:
        """The project's name among the archives of a submission: the folder with a slash at its end."""
        return None if self.project is None else os.path.join(cast(str, self.project), "")

    @functools.cached_property
    def entry(self) -> str | None:
        """The file of the project that the job runs, with slashes; ``None`` if it runs no such file."""
        if self.project is None or self.source is not None:
            return None
        from titan_sdk.model.project import entry_of_file, entry_of_module  # few jobs have a project

        folder = cast(str, self.project)
        if self.module is not None:
            return entry_of_module(folder, self.module)
        return entry_of_file(folder, self.filename)

    @property
    def uses_runtime(self) -> bool:
        """Whether the runtime travels with this job. Services never have it."""
        return self.runtime and not self.kind.is_service

    @property
    def argv(self) -> tuple[str, ...]:
        """The list of arguments. A string is split at spaces only, as a worker does (section 5.1)."""
        if self.args is None:
            return ()
        if isinstance(self.args, str):
            return tuple(piece for piece in (p.strip() for p in self.args.split(" ")) if piece)
        return cast("tuple[str, ...]", self.args)

    @property
    def output(self) -> Outputs:
        """The job's future outputs, for the ``inputs`` of later jobs: ``train.output["model"]``."""
        from titan_sdk.model import files

        return files.Outputs(self.job_id, self.outputs or {})

    # -- checks -----------------------------------------------------------------------------------------------

    def _normalise(self) -> None:
        """Give each field its one frozen form."""
        self._read_source()
        names = ("job_id", "filename", "job_type", "requirement", "python", "hitl_message", "module", "cwd")
        texts = [rules.plain_text(getattr(self, name)) for name in names]
        for name, text in zip(names, texts, strict=True):
            self._freeze(name, text)
        if not _is_path(self.filename):
            raise self._invalid("filename", self.filename, "is not a path; give the script's path as a text")
        self._freeze("filename", rules.plain_text(os.fspath(self.filename)))
        if self.project is not None:
            if not _is_path(self.project):
                raise self._invalid("project", self.project, "is not a path; give a folder's path as a text")
            self._freeze("project", rules.plain_text(os.fspath(self.project)))
        self._freeze("requirement", _or_general(self.requirement))
        self._read_requirements()
        if _is_text(self.parents):
            raise self._invalid("parents", self.parents, "is a single text; give a list of job ids")
        if self.parents is not None and not _is_listing(self.parents):
            raise self._invalid("parents", self.parents, "is not a list of job ids")
        self._freeze("parents", tuple(map(rules.plain_text, self.parents or ())))
        self._freeze("args", rules.as_text(self.args))
        if self.args is not None and not isinstance(self.args, str):
            if not _is_listing(self.args):
                raise self._invalid("args", self.args, "is neither a text nor a list of texts")
            self._freeze("args", tuple(rules.as_text(piece) for piece in cast("Sequence[object]", self.args)))
        if not isinstance(self.env or {}, Mapping):
            raise self._invalid("env", self.env, "is not a mapping of names to texts")
        self._freeze(
            "env",
            {rules.plain_text(name): rules.as_text(value) for name, value in self.env.items()}
            if self.env
            else {},
        )
        self._read_files()
        self._read_durations()

    def _read_files(self) -> None:
        if not self.inputs and not self.outputs:
            self._freeze("inputs", {})
            self._freeze("outputs", {})
            return
        from titan_sdk.model import files  # few jobs have files

        for name, read in (("inputs", files.read_inputs), ("outputs", files.check_outputs)):
            try:
                self._freeze(name, read(getattr(self, name) or {}))
            except InvalidArgument as exc:
                raise InvalidJob(f"job {self.job_id!r}: {name}: {exc}") from exc
        known = {rules.full_id(parent) for parent in self.parents or () if _is_text(parent)}
        more = [
            job_id for job_id in files.parents_of(self.inputs or {}) if rules.full_id(job_id) not in known
        ]
        if more:
            self._freeze("parents", (*(self.parents or ()), *more))

    def _check_checkpoint(self) -> None:
        for name, check in (("checkpoint_key", rules.check_name), ("keep_checkpoint", rules.check_flag)):
            if problem := check(getattr(self, name)):
                raise self._invalid(name, getattr(self, name), problem)

    def _read_source(self) -> None:
        """Move the text of an inline script into ``source``, and give it a file name."""
        if self.script_content is not None:
            if self.source is not None:
                raise InvalidJob(
                    f"job {self.job_id!r}: source and script_content are the same; give one of them"
                )
            self._freeze("source", self.script_content)
            self._freeze("script_content", None)
        self._freeze("source", rules.plain_text(self.source))
        if self.source is None:
            if self.filename == "" and self.module is None:
                ways = "its path (filename), its text (source), or a module"
                raise InvalidJob(f"job {self.job_id!r}: nothing says what to run; give {ways}")
            return
        if not isinstance(self.source, str | bytes):
            raise self._invalid("source", self.source, "is neither a text nor bytes")
        if self.is_archive:
            raise InvalidJob(
                f"job {self.job_id!r}: source and is_archive exclude each other; an archive holds its scripts"
            )
        try:
            content = self.source.encode() if isinstance(self.source, str) else self.source
        except UnicodeEncodeError as exc:
            raise InvalidJob(
                f"job {self.job_id!r}: source has the lone surrogate {self.source[exc.start]!r} at character "
                f"{exc.start}, which UTF-8 cannot carry; give the script's bytes"
            ) from exc
        if self.filename == "" and isinstance(self.job_id, str):
            self._freeze("filename", inline_name(self.job_id, content))

    def _read_requirements(self) -> None:
        """Make the field a path or a tuple of checked lines. The file is read at submission."""
        if self.requirements is None:
            return
        # Most jobs have no requirements, so the import of a client does not load this module.
        from titan_sdk.model.requirements import looks_like_package, read_lines

        wanted = rules.plain_text(self.requirements)
        if _is_listing(wanted):
            lines = tuple(map(rules.plain_text, cast("Iterable[object]", wanted)))
            if not all(isinstance(line, str) for line in lines):
                raise self._invalid("requirements", wanted, "is not a list of texts such as 'numpy>=2'")
            try:
                read_lines(("requirements", cast(str, line)) for line in lines)
            except InvalidArgument as exc:
                raise InvalidJob(f"job {self.job_id!r}: {exc}") from exc
            self._freeze("requirements", lines)
            return
        if not _is_path(wanted):
            raise self._invalid(
                "requirements", wanted, "is neither a list of packages nor the path of a file"
            )
        path = os.fspath(cast(str, wanted))
        if not Path(path).is_file():
            if path in {"GENERAL", "GPU", "HIGH_MEM"}:
                raise self._invalid(
                    "requirements", path, f"is a worker's tag, which requirement={path!r} asks for"
                )
            if looks_like_package(path) and not path.endswith((".txt", ".toml", ".lock")):
                raise self._invalid(
                    "requirements", path, f"is a package, not a file; give a list: requirements=[{path!r}]"
                )
            raise MissingFile(
                f"job {self.job_id!r}: there is no requirements file {path!r} (current folder {os.getcwd()!r})"
            )
        self._freeze("requirements", path)

    def _read_durations(self) -> None:
        """Turn texts and timedeltas into numbers of the field's unit. Numbers stay unchanged."""
        if isinstance(self.delay, float) and self.delay % 1:
            raise self._invalid("delay", self.delay, "is not a number of milliseconds from 0 up; round it")
        if not _is_int(self.delay):
            self._freeze("delay", round(self._seconds("delay", self.delay, unit="ms", zero=True) * 1000))
        for name in ("timeout", "owner_lease"):
            if getattr(self, name) is not None:
                self._read_seconds(name)
        self._read_seconds("cancel_grace", zero=True, longest=rules.LONGEST_GRACE)
        if isinstance(self.max_wait_seconds, str | timedelta):
            seconds = self._seconds("max_wait_seconds", self.max_wait_seconds)
            self._freeze("max_wait_seconds", int(seconds) if seconds.is_integer() else seconds)

    def _read_seconds(self, name: str, **how: Any) -> None:
        seconds = self._seconds(name, getattr(self, name), **how)
        if not _is_number(getattr(self, name)):
            self._freeze(name, seconds)

    def _seconds(self, name: str, value: object, **how: Any) -> float:
        try:
            return parse_duration(value, f"job {self.job_id!r}: {name}", **how)
        except InvalidArgument as exc:
            raise InvalidJob(str(exc)) from exc

    def _check_project(self) -> None:
        if self.module is None and self.project is None:
            return
        from titan_sdk.model.project import ProjectProblem, check_folder, check_module

        try:
            if self.module is not None:
                check_module(self.module)
            if self.project is not None:
                check_folder(cast(str, self.project))
                _ = self.entry
        except ProjectProblem as exc:
            raise InvalidJob(f"job {self.job_id!r}: {exc}") from exc

    def _check_file(self) -> None:
        if Path(self.filename).is_dir():
            raise self._invalid(
                "filename",
                self.filename,
                "is a folder; give the script to run. A whole folder travels as project=, with filename= or module= "
                "for what to run of it",
            )
        if not Path(self.filename).is_file():
            raise MissingFile(
                f"job {self.job_id!r}: there is no file {self.filename!r} (current folder {os.getcwd()!r}); "
                "give a path that exists on this machine, or the script itself as source="
            )

    def _check_names(self) -> None:
        if not isinstance(self.job_id, str):
            raise self._invalid("job_id", self.job_id, "is not a text")
        if problem := rules.check_id(self.job_id):
            raise self._invalid("job_id", self.job_id, problem)
        for parent in self.parents or ():
            if not isinstance(parent, str):
                raise self._invalid("parents", parent, "is not a job id; give the parent's job_id")
            if problem := rules.check_id(parent):
                raise self._invalid("parents", parent, problem)
        if not isinstance(self.requirement, str):
            raise self._invalid(
                "requirement",
                self.requirement,
                "is not a text; it is the tag that a worker must have. Packages go into requirements=",
            )
        if re.search(r"[=<>~!]=|[<>@]|\.(txt|toml)$", self.requirement) and self.requirement[-1] != "=":
            raise self._invalid(
                "requirement",
                self.requirement,
                f"looks like a package or a file of packages; these go into requirements={_as_packages(self.requirement)}",
            )
        if problem := rules.check_requirement(self.requirement):
            raise self._invalid("requirement", self.requirement, problem)
        if self.job_type not in _SERVICE_TYPES | _TASK_TYPES:
            known = ", ".join(sorted(_SERVICE_TYPES | _TASK_TYPES))
            raise self._invalid("job_type", self.job_type, f"is not known; use one of {known}")
        # Titan cuts the pointer at the first ".zip" (section 5.4).
        if self.is_archive:
            name, _, entry = self.filename.partition(".zip")
            parts = entry.split("/")
            if not name or parts[0] or not parts[-1] or {".", ".."} & set(parts) or "\0" in self.filename:
                raise self._invalid(
                    "filename", self.filename, "does not point into an archive; write 'name.zip/entry.py'"
                )

    def _check_numbers(self) -> None:
        if not _is_int(self.priority) or not rules.INT32_MIN <= self.priority <= rules.INT32_MAX:
            raise self._invalid("priority", self.priority, "is not a 32-bit integer")
        if not 0 <= self.delay_ms <= rules.INT64_MAX:
            raise self._invalid("delay", self.delay, "is not a number of milliseconds from 0 up")
        if self.kind.is_service and not (_is_int(self.port) and 1 <= self.port <= 65535):
            raise self._invalid(
                "port", self.port, "is not a port; a service needs the port its script listens on"
            )
        if self.max_attempts is not None and (not _is_int(self.max_attempts) or self.max_attempts < 1):
            raise self._invalid("max_attempts", self.max_attempts, "is not a whole number from 1 up")

    def _check_carriers(self) -> None:
        """Refuse fields that this kind of job cannot carry. They must not be dropped silently."""
        self._check_gate()
        self._check_checkpoint()
        if self.kind.is_service and self.args:
            raise self._invalid(
                "args", self.args, "cannot reach a service: Titan starts services without arguments"
            )
        if isinstance(self.args, tuple) and not all(isinstance(a, str) for a in self.args):
            raise self._invalid(
                "args", self.args, "holds something else than texts and numbers; convert it with str()"
            )
        if problem := next(filter(None, map(rules.check_process_text, self.argv)), None):
            raise self._invalid("args", self.args, problem)
        self._check_env()
        texts = [*self.argv, *(f"{name}={value}" for name, value in self.variables.items())]
        size = sum(len(text.encode("utf-8", "surrogateescape")) + 9 for text in texts)  # a NUL and a pointer
        if size > rules.MAX_PROCESS_TEXTS:
            raise InvalidJob(
                f"job {self.job_id!r}: args and env take {size:,} bytes; Linux gives a process up to "
                f"{rules.MAX_PROCESS_TEXTS:,}. Send them as params, or put them into a file (upload_file)"
            )
        if self.python is not None and os.path.basename(self.python) in _NO_PYTHON:
            raise self._invalid("python", self.python, "is no Python; name one, such as python3.12")
        if self.uses_runtime:
            if problem := rules.check_value(self.params, self.serializer):
                raise InvalidJob(f"job {self.job_id!r}: {problem}")
            return
        for name in _RUNTIME_FIELDS:
            value, default = getattr(self, name), self.__dataclass_fields__[name].default
            # Only params takes any value, and an array cannot be compared with a default.
            if value is not None if name == "params" else value not in (None, {}, default):
                raise self._invalid(
                    name,
                    value,
                    "needs the runtime, which services and jobs with runtime=False do not have",
                )
        if self.argv != () and not isinstance(self.args, str) and any(" " in a or not a for a in self.argv):
            raise self._invalid(
                "args",
                self.args,
                "has a space or an empty piece, which Titan splits or drops without the runtime",
            )
        self._check_plain_fields()

    def _check_ways(self) -> None:
        """Check that exactly one field says what to run."""
        if self.module is not None and (self.filename or self.source is not None):
            other = "source" if self.source is not None else "filename"
            raise InvalidJob(
                f"job {self.job_id!r}: {other} and module exclude each other; give the one that is to run"
            )
        for name in ("project", "module"):
            if self.is_archive and getattr(self, name) is not None:
                raise InvalidJob(
                    f"job {self.job_id!r}: {name} and is_archive exclude each other; project= uploads the folder itself"
                )
        if self.cwd not in ("project", "worker"):
            raise self._invalid("cwd", self.cwd, "is neither 'project' nor 'worker'")

    def _check_env(self) -> None:
        for name, value in self.variables.items():
            if not _is_text(name) or not _is_text(value) or not name or "=" in name:
                raise self._invalid("env", {name: value}, "is not a pair of texts with a name free of '='")
            if problem := rules.check_process_text(f"{name}={value}"):
                raise self._invalid("env", {name: value}, problem)

    def _check_gate(self) -> None:
        if self.hitl_message is None:
            return
        if not _is_text(self.hitl_message) or not self.hitl_message.strip():
            raise self._invalid("hitl_message", self.hitl_message, "is not a text that asks for something")
        if "\0" in self.hitl_message:
            raise self._invalid("hitl_message", self.hitl_message, "contains a NUL character; leave it out")
        if not _is_int(self.max_wait_seconds) or cast(int, self.max_wait_seconds) < 1:
            raise self._invalid(
                "max_wait_seconds", self.max_wait_seconds, "is not a whole number of seconds from 1 up"
            )
        if problem := rules.check_id(rules.gate_id(self.job_id)):
            raise self._invalid("job_id", self.job_id, f"gives its gate a name that {problem}")

    def _check_plain_fields(self) -> None:
        shown = self.filename if self.kind.is_archive else Path(self.filename).name
        if problem := rules.check_filename(shown):
            raise self._invalid("filename", self.filename, problem)
        if problem := rules.check_args(self.plain_args):
            raise self._invalid("args", self.args, problem)
        if not shown.endswith((".py", ".sh")) and self.kind is not JobKind.SERVICE:
            raise self._invalid(
                "filename", self.filename, "does not end in .py or .sh, the only kinds Titan runs by itself"
            )

    def read_script(self) -> bytes:
        """The bytes of the script: the source, or the file's present content. Empty for an archive or a module.

        Raises:
            MissingFile: the file is gone since the job was made.
        """
        if self.source is not None:
            return self.source.encode() if isinstance(self.source, str) else self.source
        if not self.reads_file:
            return b""
        try:
            return Path(self.filename).read_bytes()
        except FileNotFoundError as exc:
            raise MissingFile(
                f"job {self.job_id!r}: the file {self.filename!r} is gone since the job was made"
            ) from exc

    @property
    def plain_args(self) -> str:
        """The arguments of the job line without the runtime, joined by spaces."""
        if isinstance(self.args, str):
            return self.args
        return " ".join(self.argv)

    def plain_fields(self, content: bytes, name: str) -> tuple[str, ...]:
        """The fields of the job line without the runtime, for a file of that content and name."""
        packed = base64.b64encode(content).decode("ascii")
        match self.kind:
            case JobKind.SCRIPT:
                return (name, self.plain_args, packed, self.requirement)
            case JobKind.SERVICE:
                return (name, packed, str(self.port), self.requirement)
            case JobKind.ARCHIVE:
                return (self.filename, self.plain_args, self.requirement)
            case _:
                return (self.filename, "", str(self.port), self.requirement)

    def to_string(self) -> str:
        """The job line as upstream's SDK sends it, without the runtime (``runtime=False``). Reads the script.

        Raises:
            InvalidJob: a field does not fit into a line.
        """
        self._check_plain_fields()
        fields = self.plain_fields(self.read_script(), Path(self.filename).name)
        tail = (str(self.priority), str(self.delay), f"[{','.join(self.parents or ())}]")
        line = "|".join((self.job_id, self.kind.value, *fields, *tail))
        return f"{line}|AFFINITY" if self.affinity else line

    def _freeze(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _invalid(self, name: str, value: object, problem: str) -> InvalidJob:
        shown = repr(value)
        if len(shown) > _SHOWN:
            shown = f"{shown[:_SHOWN]}..."
        return InvalidJob(f"job {self.job_id!r}: {name} {shown} {problem}")


def inline_name(name: str, content: bytes) -> str:
    """The file name of an inline script. It ends with ``.sh`` if a ``#!`` line names a shell, otherwise with ``.py``.

    Args:
        name: the beginning of the file name, such as the job's id.
    """
    first = content.lstrip().partition(b"\n")[0]
    interpreter = first[2:].split() if first.startswith(b"#!") else []
    suffix = ".sh" if any(word.endswith(b"sh") for word in interpreter if word[:1] != b"-") else ".py"
    stem = "".join(c if c.isalnum() or c in "._-@" else "_" for c in name)[:100].removesuffix(suffix)
    if suffix == ".py" and stem.isidentifier():
        # The script's folder is first on its path. Without the suffix, a job called "email" would hide that module.
        stem += "-script"
    return stem + suffix


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _or_general(value: object) -> object:
    # In upstream's YAML files the key's value may be missing.
    return "GENERAL" if value is None else value


def _as_packages(text: str) -> str:
    return repr(text) if text.endswith((".txt", ".toml")) else f"[{text!r}]"


def _is_listing(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _is_path(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
