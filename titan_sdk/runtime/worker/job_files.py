"""The file functions of ``titan_job``, in the job's own process. They talk to the master as the launcher does."""

from __future__ import annotations

import os
import time

from . import artifacts, checkpoints, files, limits, store
from .c_modules import dumps, partial, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional


def do(verb: str, *arguments: Any) -> Any:
    """Call one of the functions below. Outside a job, only warn.

    Raises:
        OSError: the master cannot be reached, or does not take the file.
    """
    if not os.environ.get("TITAN_JOB_DIR"):
        import warnings

        warnings.warn("not inside a Titan job (TITAN_JOB_DIR is not set): nothing is kept", RuntimeWarning, 5)
        return None
    try:
        return _VERBS[verb](*arguments)
    except (store.StoreError, artifacts.Gone) as exc:
        raise OSError("titan_job.%s: %s" % (verb.replace("_", " "), exc)) from None


class _Job:
    """The data that the launcher has given to this job."""

    def __init__(self) -> None:
        self.folder = os.environ["TITAN_JOB_DIR"]
        self.run = {"id": os.environ["TITAN_JOB_ID"], "nonce": os.environ["TITAN_NONCE"]}
        self.attempt = os.environ["TITAN_ATTEMPT"]
        self.master = store.StoreConnection(os.environ["TITAN_HOST"], int(os.environ["TITAN_PORT"]))
        store.persist(self.master.meet, deadline())

    def scratch(self) -> str:
        return os.path.join(self.folder, "%d-%x.tmp" % (os.getpid(), time.monotonic_ns()))


def deadline() -> Callable[[], float]:
    end = time.monotonic() + limits.END_PATIENCE
    return lambda: end


def _alive() -> None:
    """Do nothing: the launcher sends the heartbeats meanwhile."""


def _publish(path: Any, name: Optional[str], key: Optional[str]) -> Dict[str, Any]:
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(
            "titan_job.publish: there is no %r in %s" % (path, files.shown(os.path.abspath(path)))
        )
    label = _label(name, path)
    job = _Job()
    try:
        ref = files.publish(job.master, job.run, label, path, job.scratch(), deadline, _alive)
    except files.Trouble as exc:
        raise OSError("titan_job.publish: %s" % exc) from None
    ref["path"] = path
    if key is not None:
        _name(job.master, key, ref)
    ref = dict(ref, titan_file=1)
    folder = os.path.join(job.folder, "published")
    os.makedirs(folder, 0o700, True)
    target = os.path.join(folder, "%s.json" % label)
    with open(target + ".part", "w", encoding="ascii") as file:
        file.write(dumps({"as": label, "ref": ref}))
    os.replace(target + ".part", target)
    return ref


def _label(name: Optional[str], path: str) -> str:
    """What it is called in the job's outputs: the name, or the base name where that can be one."""
    if name is not None:
        if not 0 < len(name) <= 40 or artifacts.plain(name) != name:
            raise ValueError(
                "titan_job.publish: the name %.100r is not 1 to 40 letters, digits, dots, dashes and underscores"
                % (name,)
            )
        return name
    own = os.path.basename(os.path.normpath(path))
    label = artifacts.plain(own, 40)
    if label == own:
        return label
    # Two names that differ only in what was left out stay two.
    return "%s-%s" % (label[-31:], sha256(os.fsencode(own)).hexdigest()[:8])


def _name(master: store.StoreConnection, key: str, ref: Dict[str, Any]) -> None:
    """Publish the file under the key. The value is a plain name, which upstream's clients read, or, for parts, a reference."""
    text = dumps(dict(ref, titan_file=1)) if "parts" in ref else ref["name"]
    stored = files.stored_key(key)
    store.persist(partial(master.set, stored, text), deadline())


def _checkpoint_of(job: _Job) -> checkpoints.Checkpoint:
    with open(os.path.join(job.folder, checkpoints.USED), "w"):
        pass
    run = dict(job.run, attempt=job.attempt)
    return checkpoints.Checkpoint(job.master, run, os.environ.get(checkpoints.VARIABLE), deadline)


def _checkpoint(path: Any, step: Any) -> None:
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(
            "titan_job.checkpoint: there is no %r in %s" % (path, files.shown(os.path.abspath(path)))
        )
    if step is not None and not isinstance(step, (int, float, str)):
        raise TypeError("titan_job.checkpoint: step %r is neither a number nor a text" % (step,))
    job = _Job()
    _checkpoint_of(job).save(path, step, job.scratch())


def _restore() -> Any:
    job = _Job()
    return _checkpoint_of(job).restore(os.path.join(job.folder, "restored"))


def _read_state() -> Dict[str, Any]:
    return _checkpoint_of(_Job()).state()


def _put_state(state: Dict[str, Any]) -> None:
    import json

    try:
        text = json.dumps(state, allow_nan=False)
        if json.loads(text) != state:
            raise ValueError("JSON would change it, as it does with tuples and with keys that are no texts")
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError("titan_job.state holds JSON values by name: %s" % exc) from None
    if len(text) > limits.STATE:
        raise ValueError(
            "titan_job.state has %d bytes as JSON; the limit is %d: put what is large into a checkpoint's file"
            % (len(text), limits.STATE)
        )
    _checkpoint_of(_Job()).put_state(state)


_VERBS: Dict[str, Callable[..., Any]] = {
    "publish": _publish,
    "checkpoint": _checkpoint,
    "restore": _restore,
    "read_state": _read_state,
    "put_state": _put_state,
}
