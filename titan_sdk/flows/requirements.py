"""The requirements of a job, read from what it names: a list, a file, or the block at the head of its script."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from titan_sdk.errors import InvalidArgument, InvalidJob, MissingFile
from titan_sdk.model.job import TitanJob
from titan_sdk.model.requirements import Requirements, distinct, merge_lines, read_lines

__all__ = ["requirements_of"]


def requirements_of(job: TitanJob, script: bytes, read: dict[str, bytes]) -> Requirements | None:
    """What the job's environment is made of; ``None`` where it has none of its own.

    Args:
        script: the job's script, as far as it is a file or a text.
        read: gets the content of each file that is read, by its path.

    Raises:
        InvalidJob: a line cannot be read, or cannot travel; the sentence names file and line.
        MissingFile: a file is not there.
    """
    wanted = job.requirements
    try:
        if wanted is None:
            return _block_of(job, script, read)
        if isinstance(wanted, str):
            return _read_file(wanted, _reader(job, read))
        if not wanted:
            return None
        listed = cast("Sequence[str]", wanted)
        return Requirements(distinct(read_lines(("requirements", line) for line in listed)))
    except MissingFile:
        raise
    except InvalidArgument as exc:
        raise InvalidJob(f"job {job.job_id!r}: {exc}") from exc


def _block_of(job: TitanJob, script: bytes, read: dict[str, bytes]) -> Requirements | None:
    name = job.entry or job.filename
    if job.entry is not None:
        path = os.path.join(cast(str, job.project), job.entry)
        script = Path(path).read_bytes()
    if not name.endswith(".py") and b"python" not in script.partition(b"\n")[0]:
        return None
    if b"# /// script" not in script:
        return None  # as most scripts: reading TOML is imported for those that need it
    from titan_sdk.model.lockfiles import read_script_block

    found = read_script_block(name, script)
    if found is not None and job.entry is not None:
        read[path] = script
    return found


def _reader(job: TitanJob, read: dict[str, bytes]) -> Callable[[str], str]:
    def text_of(path: str) -> str:
        try:
            read[path] = Path(path).read_bytes()
        except (FileNotFoundError, IsADirectoryError) as exc:
            raise MissingFile(
                f"job {job.job_id!r}: there is no requirements file {path!r} (current folder {os.getcwd()!r})"
            ) from exc
        try:
            return read[path].decode("utf-8")
        except UnicodeDecodeError as exc:
            raise InvalidArgument(f"{path}: it is not UTF-8 ({exc.reason} at byte {exc.start})") from exc

    return text_of


def _read_file(path: str, text_of: Callable[[str], str]) -> Requirements:
    from titan_sdk.model.lockfiles import read_pylock, read_pyproject, read_uv_lock

    base = os.path.basename(path)
    if base == "uv.lock":
        return read_uv_lock(path, text_of(path))
    if base.startswith("pylock.") and base.endswith(".toml"):
        return read_pylock(path, text_of(path))
    if base.endswith(".toml"):
        return read_pyproject(path, text_of(path))
    lines: list[str] = []
    constraints: list[str] = []
    _read_text(path, text_of, lines, constraints, ())
    return Requirements(distinct(lines), distinct(constraints))


def _read_text(
    path: str,
    text_of: Callable[[str], str],
    lines: list[str],
    constraints: list[str],
    above: tuple[str, ...],
) -> None:
    if path in above:
        raise InvalidArgument(f"{path}: it includes itself, by {' and '.join(above)}; take one -r line out")

    def include(where: str, kind: str, name: str) -> None:
        if "://" in name:
            raise InvalidArgument(f"{where}: {name!r} is not on this machine; save it beside the file")
        inner = os.path.join(os.path.dirname(path), name)
        _read_text(inner, text_of, constraints if kind == "-c" else lines, constraints, (*above, path))

    lines += read_lines(merge_lines(path, text_of(path)), include)
