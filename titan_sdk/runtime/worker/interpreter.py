"""Chooses the program that runs the user's file. Its first line decides, as for a person who runs the file.

Without ``#!`` the name decides, as in Titan: Python for ``.py``, bash for ``.sh``. Any other file is executed, and a text
file is run by ``sh``, as a shell does. ``#!/usr/bin/env python3`` and ``#!/usr/bin/python3`` mean any Python: the one that
the job names, else the worker's. A certain Python (``python3.12``, ``/opt/venv/bin/python``) is used unless the job names
one.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional, Tuple

# "-c" puts the job's folder on the path. It is removed, so that no module of ours is searched there.
RUNNER = b"import sys; getattr(sys.flags, 'safe_path', 0) or sys.path.pop(0); import _titan_runner; _titan_runner.main()"
MODULE_RUNNER = RUNNER.replace(b"main()", b"run_module()")
_LINE = 4096
_USUAL = (b"", b"/bin", b"/usr/bin", b"/usr/local/bin")
"""The paths of a first line that mean any Python."""
_FLAGS = b"bBdOPqRsSuv"
"""Options with which the runner works. With any other option the line is used literally, and no exception is recorded."""
_OLDEST = 8


def command(script: bytes, kind: str, path: str, chosen: bool = False, runner: bytes = RUNNER) -> List[bytes]:
    """The command that runs the script, without the script's arguments.

    Args:
        kind: the kind by its name: ``python``, ``shell`` or ``executable``.
        path: the job's PATH.
        chosen: whether the job names the Python of this process.
        runner: Python code that runs the script; empty for none.

    Raises:
        ValueError: the worker lacks the program that the first line names.
    """
    with open(script, "rb") as file:
        head = file.read(_LINE)
    words = _words(head)
    if words is None:
        if kind == "python":
            return _python_command(os.fsencode(sys.executable), [], script, runner)
        if kind == "shell":
            return [b"/bin/bash", script]
        return [script] if b"\0" in head else [b"/bin/sh", script]
    found = _python(*words)
    if found is not None:
        program, options, certain = found
        if chosen or not certain:
            program = os.fsencode(sys.executable)
        return _python_command(_present(program, path), options, script, runner)
    program, argument = words
    return [_present(program, path)] + ([argument] if argument else []) + [script]


def module_command(module: bytes) -> List[bytes]:
    """The same for what ``python -m`` runs."""
    return _python_command(os.fsencode(sys.executable), [], module, MODULE_RUNNER)


def has_runner(arguments: List[bytes]) -> bool:
    """Whether our runner comes before the script."""
    return RUNNER in arguments or MODULE_RUNNER in arguments


def _words(head: bytes) -> Optional[Tuple[bytes, bytes]]:
    """Program and argument, as the kernel reads the line: the rest after the program is one argument."""
    if not head.startswith(b"#!"):
        return None
    # Editors on Windows end lines with \r\n.
    words = head[2:].split(b"\n", 1)[0].strip(b" \t\r").split(None, 1)
    if not words:
        return None
    return words[0], words[1] if len(words) > 1 else b""


def _python(program: bytes, argument: bytes) -> Optional[Tuple[bytes, List[bytes], bool]]:
    """The Python of the line, its options, and whether it is a certain one; None if the line names no Python."""
    words = [program] + argument.split()
    if os.path.basename(program) == b"env":
        words = words[2:] if words[1:2] == [b"-S"] else words[1:]
    if not words:
        return None
    program, options = words[0], words[1:]
    folder, name = os.path.split(program)
    major, _, minor = name[len(b"python") :].partition(b".")
    if not name.startswith(b"python") or major not in (b"", b"3"):
        return None
    if minor and not (major and minor.isdigit() and int(minor) >= _OLDEST):
        return None
    for option in options:
        if option[:1] != b"-" or not option[1:] or option[1:].strip(_FLAGS):
            return None
    return program, options, bool(minor) or folder not in _USUAL


def _python_command(program: bytes, options: List[bytes], script: bytes, runner: bytes) -> List[bytes]:
    return [program, b"-u"] + options + ([b"-c", runner] if runner else []) + [script]


def _present(program: bytes, path: str) -> bytes:
    if b"/" in program:
        places = [program]
    else:
        places = [os.path.join(os.fsencode(folder), program) for folder in path.split(os.pathsep)]
    for place in places:
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return place
    raise ValueError(
        "its first line names %s, which this worker does not have; install it there, or change the line"
        % os.fsdecode(program)
    )
