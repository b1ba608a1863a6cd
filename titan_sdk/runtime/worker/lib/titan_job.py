"""The script's side of a Titan job: params, progress, result, files, checkpoints. It travels with the job.

    import titan_job

    titan_job.params["rows"]                    # the params of the submit
    titan_job.progress(0.5, "half way")         # shown while the job runs
    titan_job.result({"accuracy": 0.97})        # the submitter reads it from the job's handle
    titan_job.publish("plots/loss.png")         # a file, as an artifact of the run, now
    titan_job.checkpoint("model.pt", step=800)  # the job continues from here after a kill:
    titan_job.restore()                         # path of the last checkpoint, or None

Shell scripts: ``python3 -m titan_job params [KEY]``, ``progress 0.5 [TEXT]``, ``result JSON``, ``publish PATH [NAME]``,
``checkpoint PATH [STEP]``, ``restore`` (prints the path, or nothing). A script also runs by hand, outside a Titan job:
params are None there, and results and progress are checked, but not stored.

This module imports other modules by `_standard`, because the script's folder may have a ``json.py`` of its own.
"""

from __future__ import annotations

import _thread
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Sequence, Tuple

    params: Any
    """The ``params`` of the submit."""
    state: Any
    """A small mapping of JSON values, shared by the job's attempts. Each assignment to a name is stored at once. A change
    inside a value is stored when the value is assigned again."""

__all__ = [
    "attempt",
    "checkpoint",
    "job_id",
    "params",
    "progress",
    "publish",
    "read_params",
    "restore",
    "result",
    "state",
]

RESULT_LIMIT = 64 * 1024 * 1024
UNSENT_LIMIT = 64 * 1024 * 1024
_SMALL = 1000
"""A result of at most so many values is written without the module json."""
UNSENT_PART = 7 * 1024 * 1024
"""A real master takes no larger file."""

job_id: Optional[str] = os.environ.get("TITAN_JOB_ID")
"""Full id of this job, with ``DAG-``; None outside a Titan job."""

attempt: int = int(os.environ.get("TITAN_ATTEMPT") or 0)
"""1 for the first start of this job's code; 0 outside a Titan job."""


def __getattr__(name: str) -> Any:
    if name == "state":
        globals()["state"] = found = _State(_files("read_state") or {})
        return found
    if name != "params":
        raise AttributeError("module %r has no attribute %r" % (__name__, name))
    # Read once, so that a script sees its own changes.
    globals()["params"] = value = read_params()
    return value


def read_params(allowed_classes: Sequence[Any] = (), setting: str = "") -> Any:
    """The ``params`` of the submit, like ``titan_job.params``, but with objects of the allowed classes.

    Args:
        allowed_classes: classes, or their names as ``module.Class``, in which ``*`` matches anything. A class is imported
            if the params have an object of it.
        setting: the way to allow a class, for the error's sentence.

    Raises:
        ValueError: an object has another class, or needs a package that this Python does not have.
    """
    folder = os.environ.get("TITAN_JOB_DIR")
    if folder is None:
        return None
    with open(os.path.join(folder, "params.json"), encoding="ascii") as file:
        found = _standard("json").load(file)
    if not isinstance(found, dict) or "titan_value" not in found:
        return found
    setting = setting or "read the params by titan_job.read_params(allowed_classes=['CLASS'])"
    # Pickles are safe here: the submitter's script can already run any code.
    return _values().load(found, allowed_classes, "params", setting, "cloudpickle")


def result(value: Any, serializer: str = "json") -> None:
    """Set the job's result; the last call counts.

    Args:
        value: None, bool, int, float, str, bytes; lists, tuples, sets and dicts; dates, times, decimals, UUIDs and
            paths; members of enumerations, dataclasses and pydantic models of modules that can be imported; numpy's
            arrays, pandas' and polars' frames. At most 64 MiB as JSON.
        serializer: ``cloudpickle`` for any other value. The reader must choose it too, and have the same version of
            Python.

    Raises:
        TypeError, ValueError: the value cannot be carried, or is too large. The message names the place inside the value,
            and the artifact that has the value after the job's end, so that the work is not lost.
    """
    try:
        count = _count_json(value) if serializer == "json" else 0
        if count:
            text = _dumps(value, count)
        else:
            written = _values().dump(value, "result", serializer=serializer)
            text = str(_standard("json").dumps(written, allow_nan=False))
        if len(text) > RESULT_LIMIT:
            raise ValueError(
                "the result has %d bytes as JSON; the limit is %d. Write it to a file and name that in outputs="
                % (len(text), RESULT_LIMIT)
            )
    except (TypeError, ValueError) as exc:
        kind = TypeError if isinstance(exc, TypeError) else ValueError
        raise kind("%s. %s" % (exc, _keep(value))) from None
    _forget_kept()
    _store("result", text)


def _values() -> Any:
    """The package for values that came with this job, not one from the script's folders."""
    module = sys.modules.get("titan_values")
    if module is None:
        here = os.path.dirname(__file__)
        spec = _seek("titan_values", [here])
        if spec is None:  # a script run by hand in a source tree
            here = os.path.join(os.path.dirname(os.path.dirname(here)), "values")
            spec = sys.modules["_frozen_importlib_external"].spec_from_file_location(
                "titan_values", os.path.join(here, "__init__.py"), submodule_search_locations=[here]
            )
        module = sys.modules["titan_values"] = type(sys)("titan_values")
        module.__spec__, module.__path__ = spec, spec.submodule_search_locations
        module.__package__, module.__loader__ = "titan_values", spec.loader
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules["titan_values"]
            raise
    return module


def progress(fraction: Optional[float], text: str = "") -> None:
    """Report the progress: `fraction` from 0 to 1, or None if unknown. The submitter sees it within seconds."""
    if fraction is not None:
        fraction = float(fraction)
        if not 0 <= fraction <= 1:
            raise ValueError("progress takes a fraction from 0 to 1, or None, not %r" % fraction)
    _store("progress", _dumps({"fraction": fraction, "text": str(text)}, 2))


def publish(path: Any, name: Optional[str] = None, key: Optional[str] = None) -> Any:
    """Make an artifact of a file, or of a folder as a zip, now. It stays even if the job fails.

    Args:
        name: the name in the job's outputs (``report.outputs``); by default the base name. The last one of a name counts.
        key: also publish the file as ``titan://KEY``, for the inputs of any job.

    Returns:
        the reference, ``{"titan_file": 1, "name", "size", "sha256", ...}``, which may be part of the result; None
        outside a Titan job.

    Raises:
        FileNotFoundError: there is no such file; the message lists the content of its folder.
        OSError: the master does not take the file.
    """
    return _files("publish", path, name, key)


def checkpoint(path: Any, step: Any = None) -> None:
    """Store a file or folder in place of the last checkpoint. When this function returns, it is stored. After a kill
    before that, the last checkpoint is still there.

    Args:
        step: a number or text that ``restore`` returns.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the master does not take the file; the last checkpoint is still there.
    """
    _files("checkpoint", path, step)


def restore() -> Optional[Restored]:
    """The path of a copy of the last checkpoint, with its ``step``; None if there is none. It is from this attempt, an
    earlier one, or another job with the same ``checkpoint_key``.
    """
    found = _files("restore")
    return None if found is None else Restored(*found)


class Restored(str):  # noqa: SLOT000 - a subclass of str can have no named slots
    """The path of a restored checkpoint."""

    step: Any
    """The ``step`` of the checkpoint."""

    def __new__(cls, path: str, step: Any = None) -> Restored:
        self = super().__new__(cls, path)
        self.step = step
        return self


class _State(dict):  # type: ignore[type-arg]
    """A mapping that stores each change before the change returns. If that fails, the mapping is unchanged."""

    def _change(self, name: str, *arguments: Any, **more: Any) -> Any:
        changed = dict(self)
        answer = getattr(changed, name)(*arguments, **more)
        if name == "update" or changed != dict(self):
            _files("put_state", changed)
        dict.clear(self)
        dict.update(self, changed)
        return answer

    def __setitem__(self, key: str, value: Any) -> None:
        # Also where it seems to be equal: a list in it may be the very one that has changed.
        changed = dict(self)
        changed[key] = value
        _files("put_state", changed)
        dict.__setitem__(self, key, value)

    def __delitem__(self, key: str) -> None:
        self._change("__delitem__", key)

    def __ior__(self, other: Any) -> _State:  # type: ignore[misc]
        self._change("update", other)
        return self

    def update(self, *others: Any, **more: Any) -> None:
        self._change("update", *others, **more)

    def setdefault(self, key: str, default: Any = None) -> Any:
        return self._change("setdefault", key, default)

    def pop(self, *arguments: Any) -> Any:
        return self._change("pop", *arguments)

    def popitem(self) -> Any:
        return self._change("popitem")

    def clear(self) -> None:
        self._change("clear")


def _files(verb: str, *arguments: Any) -> Any:
    """Do a task that needs the master, with the runtime's own modules."""
    with _StandardOnly() as only:
        return only.runtime("job_files").do(verb, *arguments)


def _store(name: str, text: str) -> None:
    folder = os.environ.get("TITAN_JOB_DIR")
    if folder is None:
        _standard("warnings").warn(
            "not inside a Titan job (TITAN_JOB_DIR is not set): the %s is not stored" % name,
            RuntimeWarning,
            stacklevel=3,
        )
        return
    path = os.path.join(folder, name + ".json")
    temporary = "%s.%d" % (path, os.getpid())
    with open(temporary, "w", encoding="ascii") as file:
        file.write(text)
    # The file is complete or absent, even after a kill.
    os.replace(temporary, path)


def _dumps(value: Any, size: int) -> str:
    """The JSON text of a checked value. A small one is written here, because the import of json is as slow as Python's start."""
    if size > _SMALL or "json" in sys.modules:
        return str(_standard("json").dumps(value, allow_nan=False))
    try:
        return _written(value, _standard("_json").encode_basestring_ascii)
    except (ImportError, AttributeError):  # another Python than CPython
        return str(_standard("json").dumps(value, allow_nan=False))


def _written(value: Any, quoted: Any) -> str:
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return str(quoted(value))
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, dict):
        return "{%s}" % ", ".join("%s: %s" % (quoted(k), _written(v, quoted)) for k, v in value.items())
    return "[%s]" % ", ".join(_written(item, quoted) for item in value)


def _count_json(root: Any) -> int:
    """The number of values, if JSON can hold all of them; otherwise 0. There is no recursion, because the value may be
    nested to any depth.
    """
    if isinstance(root, dict) and "titan_value" in root:
        return 0
    waiting: List[Tuple[Any, Tuple[int, ...]]] = [(root, ())]
    count = 0
    while waiting:
        value, above = waiting.pop()
        count += 1
        kind = type(value)
        if kind is dict or kind is list:
            if id(value) in above or len(above) >= 200:
                return 0
            inside = above + (id(value),)
            if kind is dict:
                if not all(type(key) is str and _is_plain(key) for key in value):
                    return 0
                value = value.values()
            waiting.extend((item, inside) for item in value)
        elif not (value is None or kind in (bool, int, float, str)) or not _is_plain(value):
            return 0
    return count


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold this value. Its type is one of JSON's own."""
    if isinstance(value, float):
        return value - value == 0  # neither infinite nor NaN
    if isinstance(value, int):
        return value.bit_length() < 13000  # Python reads no more digits than that
    return not isinstance(value, str) or value.isascii() or value.isprintable() or not _has_surrogates(value)


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _keep(value: Any) -> str:
    """Write a value that cannot be the result to files, of which the launcher makes artifacts. Returns a sentence about
    the value and the artifacts.
    """
    _forget_kept()
    brief = _standard("reprlib").Repr()
    brief.maxstring = brief.maxother = 300
    try:
        shown = "The value was %s" % brief.repr(value)[:1000]
    except Exception:  # noqa: BLE001 - __repr__ is the user's code
        shown = "The value was a %s, whose repr() fails" % type(value).__qualname__
    folder = os.environ.get("TITAN_JOB_DIR")
    if folder is None:
        return shown
    try:
        data, suffix = _packed(value)
        if len(data) > UNSENT_LIMIT:
            return "%s; with %d bytes it is too large to be kept" % (shown, len(data))
        names = _write_parts(os.path.join(folder, "unsent"), data, suffix)
    except Exception as exc:  # noqa: BLE001 - pickling runs the user's code, and the disk may be full
        return "%s; it could not be kept: %s: %s" % (shown, type(exc).__name__, exc)
    kept = "%s; once the job has ended, the artifact %s holds it as %s" % (shown, names[0], suffix)
    return kept if len(names) == 1 else "%s, together with the %d after it" % (kept, len(names) - 1)


def _packed(value: Any) -> Tuple[bytes, str]:
    try:
        data: bytes = _standard("pickle").dumps(value, 4)
    except Exception:  # noqa: BLE001 - a lock, a lambda, a connection
        data = b"__main__"
    # No other program could load a class of the script itself.
    if b"__main__" not in data:
        return data, "pickle"
    return repr(value).encode("utf-8", "backslashreplace"), "txt"


def _write_parts(folder: str, data: bytes, suffix: str) -> List[str]:
    """Write the files, under the names of the future artifacts. Returns the names."""
    name = "%s-%s-%d" % (job_id or "job", os.environ.get("TITAN_NONCE", ""), attempt)
    name = "unsent-" + "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[-150:]
    count = max(1, -(-len(data) // UNSENT_PART))
    os.mkdir(folder)
    names = []
    for index in range(count):
        part = "" if count == 1 else ".%dof%d" % (index + 1, count)
        names.append("%s.%s%s" % (name, suffix, part))
        with open(os.path.join(folder, names[-1]), "wb") as file:
            file.write(data[index * UNSENT_PART : (index + 1) * UNSENT_PART])
    return names


def _forget_kept() -> None:
    folder = os.path.join(os.environ.get("TITAN_JOB_DIR", ""), "unsent")
    if os.environ.get("TITAN_JOB_DIR") and os.path.isdir(folder):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


_LIBRARY = os.path.dirname(os.__file__)
_LIBRARY_PATH = [_LIBRARY] + [entry for entry in sys.path if entry.endswith("lib-dynload")]


def _standard(name: str) -> Any:
    """The standard library's module of that name, with its own imports. The script's folders do not count."""
    module = sys.modules.get(name)
    if module is not None and _is_standard(module):
        return module
    with _StandardOnly():
        __import__(name)
        return sys.modules[name]


class _StandardOnly:
    """A context in which this thread imports from the standard library only.

    The script's later imports are not affected.
    """

    def __enter__(self) -> _StandardOnly:
        self._runtime = ""
        self._thread = _thread.get_ident()
        others = {key: module for key, module in list(sys.modules.items()) if not _is_standard(module)}
        names = {key.partition(".")[0] for key in others}
        hiding = {name for name in names if _seek(name, _LIBRARY_PATH) is not None}
        self._aside = {key: module for key, module in others.items() if key.partition(".")[0] in hiding}
        for key in self._aside:
            sys.modules.pop(key, None)
        self._before = set(sys.modules)
        sys.meta_path.insert(0, self)
        return self

    def runtime(self, name: str) -> Any:
        """A module of the runtime to which this module belongs."""
        package = os.path.dirname(os.path.dirname(__file__))
        self._runtime = os.path.dirname(package)
        __import__("titan_runtime." + name)
        return sys.modules["titan_runtime." + name]

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)
        for key in set(sys.modules) - self._before:
            found = _seek(key.partition(".")[0], None)
            if found is not None and not (found.origin or "").startswith(_LIBRARY):
                sys.modules.pop(key, None)
        sys.modules.update(self._aside)

    def find_spec(self, name: str, path: Any = None, _: Any = None) -> Any:
        """Find a module, as importlib expects of an entry in ``sys.meta_path``."""
        if path is not None or _thread.get_ident() != self._thread or name in sys.builtin_module_names:
            return None
        spec = _seek(name, [self._runtime] if name == "titan_runtime" else _LIBRARY_PATH)
        if spec is None:
            raise ModuleNotFoundError("the standard library has no module %r" % name, name=name)
        return spec


def _seek(name: str, path: Optional[List[str]]) -> Any:
    # This is importlib.machinery's class. An import of that module would cost each job a millisecond.
    return sys.modules["_frozen_importlib_external"].PathFinder.find_spec(name, path)


def _is_standard(module: Any) -> bool:
    origin = getattr(getattr(module, "__spec__", None), "origin", None) or getattr(module, "__file__", None)
    if not isinstance(origin, str):
        return False
    inside = origin.startswith(_LIBRARY + os.sep) and "-packages" + os.sep not in origin[len(_LIBRARY) :]
    return inside or origin in ("built-in", "frozen")


def _command(arguments: List[str]) -> int:
    words = [os.fsencode(word).decode("utf-8", "surrogateescape") for word in arguments]
    verb = words[0] if words else ""
    try:
        if verb == "result" and len(words) == 2:
            result(_standard("json").loads(words[1]))
        elif verb == "progress" and 2 <= len(words) <= 3:
            progress(None if words[1] == "-" else float(words[1]), *words[2:])
        elif verb == "checkpoint" and 2 <= len(words) <= 3:
            checkpoint(*words[1:])
        elif verb == "restore" and len(words) == 1:
            print(restore() or "")
        elif verb == "publish" and 2 <= len(words) <= 3:
            print(_standard("json").dumps(publish(*words[1:])))
        elif verb == "params" and len(words) <= 2:
            value = __getattr__("params")
            if len(words) == 2:
                value = value[words[1]]
            if not isinstance(value, str):
                value = _standard("json").dumps(value if _count_json(value) else _values().dump(value))
            print(value)
        else:
            print(
                "usage: python3 -m titan_job result JSON | progress FRACTION|- [TEXT] | params [KEY] | "
                "publish PATH [NAME] | checkpoint PATH [STEP] | restore",
                file=sys.stderr,
            )
            return 2
    except (ValueError, TypeError, KeyError, OSError) as exc:
        print("titan_job %s: %s: %s" % (verb, type(exc).__name__, exc), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_command(sys.argv[1:]))
