"""Runs the user's script in the real ``__main__``, as ``python -u script.py`` would, and records its exception.

The script sees the same as without this module: ``__file__``, ``sys.argv``,
``sys.path[0]``, ``__main__`` for pickle and multiprocessing, exit codes, and tracebacks without this module's frames.

No module of the runtime is imported from the script's folder: `titan_job` is loaded before that folder is on the path,
and imports the standard library's modules itself.
"""

from __future__ import annotations

import os
import sys

titan_job = __import__("titan_job")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Dict, Optional, Type


def main(is_compiled: bool = False) -> None:
    """Run ``sys.argv[1]``, or ``sys.argv[2]`` if ``sys.argv[1]`` is the file of its compiled code."""
    del sys.argv[0]
    compiled = sys.argv.pop(0) if is_compiled else None
    script = sys.argv[0]
    if not getattr(sys.flags, "safe_path", False):
        # The launcher has removed the working directory, which "-c" adds. A script has its own folder here.
        sys.path.insert(0, os.path.dirname(script))
    _add_project()
    namespace = sys.modules["__main__"].__dict__
    _dress(namespace, script)
    process = os.getpid()
    try:
        with open(compiled or script, "rb") as file:
            source = file.read()
        if compiled:
            code = sys.modules["marshal"].loads(source)
        else:
            code = compile(source, script, "exec", dont_inherit=True)
        exec(code, namespace)
    except SystemExit:
        raise
    except BaseException as exc:
        # A child that the script forked may reach this line too. Only the parent is the job.
        _hide_own_frames(exc)
        if os.getpid() == process:
            _note(exc)
        raise


def run_module() -> None:
    """Become ``python -m sys.argv[1]``."""
    del sys.argv[0]
    runpy = titan_job._standard("runpy")
    _add_project()
    sys.modules["__main__"].__dict__.pop("_titan_runner", None)
    process = os.getpid()
    try:
        # The function that the interpreter itself calls for -m.
        runpy._run_module_as_main(sys.argv[0])
    except SystemExit:
        raise
    except BaseException as exc:
        _hide_own_frames(exc)
        if os.getpid() == process:
            _note(exc)
        raise


def _add_project() -> None:
    """Put the project's root on the path after the script's folder, and first on the path of every Python that the job
    starts.
    """
    root = os.environ.get("TITAN_PROJECT_DIR")
    if root is None:
        return
    at = 1 if sys.path and sys.argv and sys.path[0] == os.path.dirname(sys.argv[0]) else 0
    if root not in sys.path[:1]:
        sys.path.insert(at, root)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))


def _dress(namespace: Dict[str, Any], script: str) -> None:
    """Set the names that a script finds in its namespace at its start."""
    # The class of importlib.machinery; importing that module would cost each job a millisecond.
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader
    namespace.pop("_titan_runner", None)
    namespace["__file__"] = script
    namespace["__loader__"] = loader("__main__", script)
    if sys.version_info < (3, 15):
        namespace["__cached__"] = None


def _user_part(trace: Optional[TracebackType]) -> Optional[TracebackType]:
    """The traceback without the frame of `main`, the first one when it catches."""
    own = sys.modules[__name__].__dict__
    while trace is not None and trace.tb_frame.f_globals is own:
        trace = trace.tb_next
    return trace


def _hide_own_frames(exc: BaseException) -> None:
    """Have the interpreter, or the script's own hook, show only the script's frames."""
    hook = sys.excepthook
    trace = _user_part(exc.__traceback__)

    def shown(kind: Type[BaseException], value: BaseException, whole: Optional[TracebackType]) -> None:
        if value is exc:
            whole = trace
            value.__traceback__ = trace
        sys.excepthook = hook
        hook(kind, value, whole)

    sys.excepthook = shown


def _note(exc: BaseException) -> None:
    """Write the exception for the launcher. A failure of that must not change how the script ends."""
    try:
        json, traceback = titan_job._standard("json"), titan_job._standard("traceback")
        kind = type(exc)
        name = (
            kind.__qualname__
            if kind.__module__ in ("builtins", "__main__")
            else "%s.%s" % (kind.__module__, kind.__qualname__)
        )
        with titan_job._StandardOnly():  # some lines make it import more
            lines = traceback.format_exception(kind, exc, _user_part(exc.__traceback__))
        try:
            message = str(exc)
        except Exception:  # noqa: BLE001 - __str__ is the user's code
            message = "<exception whose str() fails>"
        noted = {"type": name, "message": message, "traceback": "".join(lines)}
        with open(os.path.join(os.environ["TITAN_JOB_DIR"], "exception.json"), "w", encoding="ascii") as file:
            json.dump(noted, file)
    except Exception:  # noqa: BLE001 - a full disk, a broken __cause__: the job still ends as it would
        return
