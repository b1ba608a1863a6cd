"""What a disk may hold after a power cut: a master's writes and syncs, recorded by strace and replayed up to any point.

The model is stricter than a file system usually is. What was written since the last sync of a file may be there or not,
each write for itself, and of the last bytes of one a part; a name may be there or not until its folder is synced.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

__all__ = [
    "SCRATCH",
    "Disk",
    "Reply",
    "Step",
    "at_random",
    "everything",
    "need_strace",
    "nothing",
    "read_log",
    "traced",
]

_OF_FILES = set("write pwrite64 writev pwritev pwritev2 ftruncate fallocate fsync fdatasync sendfile".split())
_OF_NAMES = {
    **dict.fromkeys(("mkdir", "mkdirat"), "mkdir"),
    **dict.fromkeys(("rename", "renameat", "renameat2"), "rename"),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), "remove"),
}
_UNKNOWN = set("open creat truncate link linkat copy_file_range".split())
"""Nothing here makes them; a recording with one of them is refused."""
_SENDS = {"sendto", "sendmsg", "write", "writev"}
_CALLS = ",".join(sorted(_OF_FILES | set(_OF_NAMES) | _UNKNOWN | _SENDS | {"openat", "symlink", "symlinkat"}))
_LINE = re.compile(r"(\d+) +(?:(\w+)\(|<\.\.\. (\w+) resumed>)(.*)", re.DOTALL)
_FD = re.compile(r"(?:\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_TCP = re.compile(r"\d+<TCP(?:v6)?:\[[^\]>]*->[^\]]*:(\d+)\]>")
_OF_PROCESS = re.compile(r"(/proc/self/fd/\d+)(/.*)")
"""A path below a folder that the process holds open, as launchers know the data directory."""
_UNFINISHED = " <unfinished ...>"
SCRATCH = "-shm"
"""Ends the name of SQLite's index of its log, which it makes anew from the log when nobody has it open."""


def traced(strace: str, log: Path) -> list[str]:
    """What goes before a command that is to be recorded."""
    return [
        strace,
        "-f",
        "-yy",
        "-xx",
        "-s",
        "33554432",
        "--seccomp-bpf",
        "-o",
        str(log),
        "-e",
        f"trace={_CALLS}",
    ]


@dataclass(frozen=True)
class Reply:
    """Bytes that went to a client at that port."""

    port: int


@dataclass(frozen=True)
class Step:
    """A system call of the data directory.

    Args:
        call: ``write``, ``truncate``, ``create``, ``mkdir``, ``rename``, ``remove`` or ``sync``.
        begun: how many steps had ended when it began: what a sync covers.
    """

    call: str
    path: str
    begun: int = 0
    offset: int | None = None
    data: bytes = b""
    other: str = ""
    size: int = 0


def need_strace() -> str:
    """Its path.

    Raises:
        LookupError: it cannot be used here; says why.
    """
    found = shutil.which("strace")
    if found is None:
        raise LookupError("strace is not installed")
    tried = subprocess.run([found, "-qq", "-o", os.devnull, "true"], capture_output=True, text=True)
    if tried.returncode:
        raise LookupError(f"strace cannot trace here: {tried.stderr.strip()}")
    return found


# ---------------------------------------------------------------------- the recording


def read_log(log: Path, root: Path, before: int = 0) -> list[Step | Reply]:
    """What happened below a folder, and when which client was answered, in order.

    Args:
        before: how many steps there were before this log.

    Raises:
        AssertionError: a call that this does not know touched the folder.
    """
    steps: list[Step | Reply] = []
    count = before
    pending: dict[str, tuple[str, int]] = {}
    held: dict[tuple[str, str], str] = {}
    with log.open("r", encoding="ascii", errors="replace") as lines:
        for line in lines:
            found = _LINE.match(line.rstrip("\n"))
            if found is None:
                continue
            pid, call, resumed, rest = found.groups()
            begun = count
            if call is not None and rest.endswith(_UNFINISHED):
                pending[pid] = rest.removesuffix(_UNFINISHED), begun
                if call in _SENDS and (reply := _TCP.match(rest)):
                    steps.append(Reply(int(reply[1])))
                continue
            if resumed is not None:
                head, begun = pending.pop(pid)
                call, rest = resumed, head + rest
            elif (reply := _TCP.match(rest)) and call in _SENDS:
                steps.append(Reply(int(reply[1])))
                continue
            args, _, result = rest.rpartition(" = ")
            if result and not result.startswith(("-", "?")):
                held |= _held(pid, call or "", args, result)
                folders = {start: folder for (owner, start), folder in held.items() if owner == pid}
                new = list(_steps(call or "", args, result, begun, str(root), folders))
                steps += new
                count += len(new)
    return steps


def _held(pid: str, call: str, args: str, result: str) -> dict[tuple[str, str], str]:
    """The folder that a process holds open, told by a file that it has opened below it."""
    opened = _FD.match(result) if call == "openat" else None
    below = [match for path in _paths(call, args, {}) if (match := _OF_PROCESS.match(path))] if opened else []
    if opened is None or not below:
        return {}
    return {(pid, below[-1][1]): _bytes(opened[1]).decode("utf-8", "replace").removesuffix(below[-1][2])}


def _steps(
    call: str, args: str, result: str, begun: int, root: str, folders: dict[str, str]
) -> Iterator[Step]:
    if call in _OF_FILES:
        file = _FD.match(args)
        here = "" if file is None else _bytes(file[1]).decode("utf-8", "replace")
        if file is not None and _is_below(here, root) and not file[2]:
            yield _of_file(call, args, result, begun, here)
        return
    if call in _SENDS:
        return
    paths = _paths(call, args, folders)
    if call == "openat":
        opened = _FD.match(result)
        path = "" if opened is None else _bytes(opened[1]).decode("utf-8", "replace")
        if _is_below(path, root) and "O_CREAT" in args:
            yield Step("create", path)
        if _is_below(path, root) and "O_TRUNC" in args:
            yield Step("truncate", path)
    elif call.startswith("symlink"):
        if _is_below(paths[-1], root):
            yield Step("create", paths[-1])  # as a file: nothing durable hangs on one
    elif any(_is_below(path, root) for path in paths):
        assert call in _OF_NAMES, f"{call} of {paths}"
        yield Step(_OF_NAMES[call], paths[0], other=paths[-1])


def _is_below(path: str, root: str) -> bool:
    return path.startswith(root) and (path == root or path[len(root)] == "/") and not path.endswith(SCRATCH)


def _of_file(call: str, args: str, result: str, begun: int, path: str) -> Step:
    last = args.rpartition(", ")[2].strip(" )")
    if call in {"fsync", "fdatasync"}:
        return Step("sync", path, begun)
    if call == "ftruncate":
        return Step("truncate", path, size=int(last))
    if call == "sendfile":
        return Step("write", path, data=_sent(args, int(result)))
    assert call in {"write", "pwrite64"}, f"{call} of {path}"
    found = _TEXT.search(args)
    assert found is not None, args
    return Step(
        "write", path, offset=int(last) if call == "pwrite64" else None, data=_bytes(found[1])[: int(result)]
    )


def _sent(args: str, size: int) -> bytes:
    """Bytes of another file, which nobody has changed since."""
    source, offset = _FD.findall(args)[1][0], re.search(r"\[(\d+)\]", args)
    assert offset is not None, args
    with open(_bytes(source), "rb") as file:
        return os.pread(file.fileno(), size, int(offset[1]))


def _paths(call: str, args: str, folders: dict[str, str]) -> list[str]:
    """The paths that a call names, each from where it begins to look for it.

    Args:
        folders: what the process holds open, by how it calls that.
    """
    starts = [_bytes(path).decode() for path, _ in _FD.findall(args)]
    texts = [_bytes(text) for text in _TEXT.findall(args)]
    made = []
    for number, text in enumerate(texts):
        start = starts[min(number, len(starts) - 1)] if starts else "/"
        path = os.path.normpath(PurePosixPath(start) / text.decode("utf-8", "surrogateescape"))
        below = _OF_PROCESS.match(path)
        made.append(folders[below[1]] + below[2] if below and below[1] in folders else path)
    return made


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


# ---------------------------------------------------------------------- the disk


@dataclass
class _File:
    """Bytes that are on the disk, and writes since: each ``(at, data)``, or ``(size, None)`` for a new size."""

    durable: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    size: int = 0
    """As programs see it."""


class _Folder:
    """Marks a name as that of a folder."""


_Node = _File | _Folder
_Names = tuple[tuple[str, "_Node | None"], ...]
"""One change of names, which is there as a whole or not at all."""


class Disk:
    """To be fed with steps; ``write_to`` shows what may be left of them."""

    def __init__(self) -> None:
        self._names: dict[str, _Node] = {}
        """As programs see them."""
        self._durable: dict[str, _Node] = {}
        self._since: list[tuple[int, _Names]] = []
        self._count = 0

    def do(self, step: Step) -> None:
        """One more step."""
        self._count += 1
        getattr(self, f"_{step.call}")(step)

    def _file(self, path: str) -> _File:
        found = self._names[path]
        assert isinstance(found, _File), path
        return found

    def _change(self, *names: tuple[str, _Node | None]) -> None:
        self._since.append((self._count, names))
        _apply(self._names, names)

    def _create(self, step: Step) -> None:
        if step.path not in self._names:
            self._change((step.path, _File()))

    def _mkdir(self, step: Step) -> None:
        self._change((step.path, _Folder()))

    def _remove(self, step: Step) -> None:
        if step.path in self._names:
            self._change((step.path, None))

    def _rename(self, step: Step) -> None:
        moved = self._names.get(step.path)
        if isinstance(moved, _Folder):
            below = [(name, node) for name, node in self._names.items() if name.startswith(step.path + "/")]
            old = [(name, None) for name, _ in (*below, (step.path, moved))]
            new = [(step.other + name[len(step.path) :], node) for name, node in ((step.path, moved), *below)]
            self._change(*old, *new)
        elif moved is not None:
            self._change((step.path, None), (step.other, moved))

    def _write(self, step: Step) -> None:
        file = self._file(step.path)
        offset = file.size if step.offset is None else step.offset
        file.since.append((self._count, offset, step.data))
        file.size = max(file.size, offset + len(step.data))

    def _truncate(self, step: Step) -> None:
        file = self._file(step.path)
        if file.size != step.size:
            file.since.append((self._count, step.size, None))
            file.size = step.size

    def _sync(self, step: Step) -> None:
        found = self._names.get(step.path)
        if isinstance(found, _File):
            settled = [entry for entry in found.since if entry[0] <= step.begun]
            found.since = [entry for entry in found.since if entry[0] > step.begun]
            for _, at, data in settled:
                _put(found.durable, at, data)
            return
        kept: list[tuple[int, _Names]] = []
        for number, names in self._since:
            if number <= step.begun and any(os.path.dirname(name) == step.path for name, _ in names):
                _apply(self._durable, names)
                # A change of the same name before it, in a folder that was not synced, is history.
                over = {name for name, _ in names}
                kept = [(n, tuple(one for one in old if one[0] not in over)) for n, old in kept]
            else:
                kept.append((number, names))
        self._since = kept

    def write_to(self, source: str, target: Path, choose: Callable[[], float]) -> None:
        """What is below a folder after a power cut now.

        Args:
            choose: a number from 0 to 1 for each thing that was not synced: below a half it is lost; a write is there
                as far as to that share of its upper half.
        """
        names = dict(self._durable)
        for _, change in self._since:
            if choose() >= 0.5:
                _apply(names, change)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        for path, node in sorted(names.items()):
            if not path.startswith(source + "/") or not _is_reached(path, source, names):
                continue
            place = target / path[len(source) + 1 :]
            if isinstance(node, _Folder):
                place.mkdir(mode=0o700, exist_ok=True)
            else:
                place.write_bytes(_content(node, choose))
                place.chmod(0o600)


def _is_reached(path: str, source: str, names: dict[str, _Node]) -> bool:
    """Whether each folder on its way is there."""
    parent = os.path.dirname(path)
    while parent != source:
        if not isinstance(names.get(parent), _Folder):
            return False
        parent = os.path.dirname(parent)
    return True


def _apply(names: dict[str, _Node], change: _Names) -> None:
    for name, node in change:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _put(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
        content.extend(bytes(at - len(content)))
        return
    content.extend(bytes(max(at - len(content), 0)))
    content[at : at + len(data)] = data


def _content(file: _File, choose: Callable[[], float]) -> bytes:
    content = bytearray(file.durable)
    for _, at, data in file.since:
        share = choose()
        if share < 0.5:
            continue
        if data is None:
            _put(content, at, None)
        else:
            _put(content, at, data[: round(len(data) * min((share - 0.5) * 3, 1.0))])
    return bytes(content)


def nothing() -> float:
    """Loses all that was not synced."""
    return 0.0


def everything() -> float:
    """Loses nothing, as ``kill -9`` does."""
    return 1.0


def at_random(seed: int) -> Callable[[], float]:
    """Loses about a half of it."""
    return random.Random(seed).random
