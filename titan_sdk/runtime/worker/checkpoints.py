"""The checkpoint of a job, from which it continues after a kill: a file or folder, its step, and a small mapping.

One value in the store says all of it, so a kill at any moment leaves either the earlier checkpoint or the new one: a new
file has a name of its own, the value names it only once it is whole, and only then is the earlier file removed. What a
kill leaves besides, the value lists as stale, for the next one who writes.

An attempt that is given up for dead may still run, and write. On a trusted master each change is a compare-and-set: the
last of the stale files is that of the present writer, and whoever finds another one there has been overtaken.
"""

from __future__ import annotations

import os
import time

from . import artifacts, folders, keys, limits, store
from .c_modules import dumps, partial, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    Deadline = Callable[[], Callable[[], float]]

USED = "checkpoint.used"
"""A file in the job's folder: it has asked for its checkpoint, or written one."""
_TRIES = 20
"""How often a change is made anew because somebody else has written meanwhile."""
VARIABLE = "TITAN_CHECKPOINT"
"""The variable with the key of the job's checkpoint, if that is not the run's own."""


class Checkpoint:
    """The checkpoint of a key, for one attempt of one run."""

    def __init__(
        self, master: store.StoreConnection, run: Dict[str, Any], key: Optional[str], deadline: Deadline
    ) -> None:
        """`key` is a key of TitanStore; None: the run's own checkpoint."""
        self._master, self._run, self._deadline = master, run, deadline
        self._is_own = key is None
        self._key = key or keys.checkpoint_key(run["id"], run["nonce"])
        self._owner = "%s:%s" % (run["id"], run["nonce"])
        self._seen: Optional[str] = None
        """What the value was when this last read or wrote it."""

    def load(self) -> Dict[str, Any]:
        """What is stored: empty where nothing is, or where the run that wrote it has succeeded."""
        text = self._seen = store.persist(partial(self._master.get, self._key), self._deadline())
        if text is None:
            return {}
        import json

        found = dict(json.loads(text))
        if found.get("done") not in (None, self._owner):
            return {"stale": _listed(found)}
        found.pop("done", None)
        return found

    def _write(self, fields: Dict[str, Any]) -> None:
        """Raises Contended where somebody else has written since."""
        text, seen = dumps(dict(fields, v=1)), self._seen
        if not self._master.trusted:
            self._master.confirm(self._key, text)
        elif not self._master.swap(self._key, seen, text):
            found = self._master.get(self._key)
            if found != text:  # else only the reply was lost
                raise store.Contended(found or "")
        self._seen = text

    def _change(self, made: Callable[[Dict[str, Any]], Dict[str, Any]]) -> Dict[str, Any]:
        """Write what `made` makes of what is stored, made anew where somebody else writes meanwhile; what it was."""
        for _ in range(_TRIES):
            before = self.load()
            try:
                store.persist(partial(self._write, made(before)), self._deadline())
                return before
            except store.Contended:
                if not self._master.trusted:
                    break
        raise self._overtaken()

    def _overtaken(self) -> store.StoreError:
        return store.StoreError(
            "somebody else writes the checkpoint %s at this moment; two jobs that run at once need two keys"
            % self._key
        )

    def save(self, path: str, step: Any, scratch: str) -> None:
        """Keep a file or folder in the place of the earlier one."""
        is_folder = os.path.isdir(path)
        if is_folder:
            folders.pack(path, scratch)
        try:
            source = scratch if is_folder else path
            name = self._new_name(os.path.basename(os.path.normpath(path)))
            intended = self._intended(name, source)

            def begin(found: Dict[str, Any]) -> Dict[str, Any]:
                if self._is_own and int(found.get("attempt") or 0) > int(self._run["attempt"]):
                    raise self._overtaken()
                return dict(found, stale=(found.get("stale") or []) + [intended])

            before = self._change(begin)
            self._remove(before.get("stale") or [])
            ref = artifacts.send(self._master, name, source, self._deadline, _alive)
        finally:
            if is_folder:
                os.unlink(scratch)
        ref["path"] = os.path.basename(os.path.normpath(path))
        if is_folder:
            ref["folder"] = True
        fields = {
            "ref": ref,
            "step": step,
            "saved_at": round(time.time(), 3),
            "job": self._run["id"],
            "attempt": self._run["attempt"],
        }

        def complete(found: Dict[str, Any]) -> Dict[str, Any]:
            kept = found.get("ref") or {}
            if kept.get("name") == name:
                return found  # it was written, and only the reply was lost
            if self._master.trusted and (found.get("stale") or [{}])[-1].get("name") != name:
                self._remove([ref])
                raise self._overtaken()
            return dict(found, stale=[kept] if kept else [], **fields)

        earlier = self._change(complete).get("ref")
        if earlier and earlier["name"] != name:
            self._remove([earlier])

    def _new_name(self, base: str) -> str:
        label = "%s-%x-%s" % (self._run["attempt"], time.time_ns(), artifacts.plain(base))
        if self._is_own:
            return artifacts.name_of(self._run["id"], self._run["nonce"], "checkpoint~" + label)
        digest = sha256(self._key.encode("ascii")).hexdigest()[:16]
        return "checkpoint~%s~%s-%s" % (digest, self._run["nonce"], label)

    def _intended(self, name: str, path: str) -> Dict[str, Any]:
        """The files that a kill of this attempt may leave behind."""
        count = 1 if self._master.trusted else -(-os.stat(path).st_size // limits.PART)
        return {"name": name, "parts": [""] * count} if count > 1 else {"name": name}

    def _remove(self, refs: List[Dict[str, Any]]) -> None:
        for ref in refs:
            artifacts.remove(self._master, ref, self._deadline)

    def restore(self, folder: str) -> Optional[Tuple[str, Any]]:
        """A copy of what was kept last below a folder, and its step; None where nothing was."""
        while True:
            found = self.load()
            ref = found.get("ref")
            if ref is None:
                return None
            try:
                return self._copy(ref, folder), found.get("step")
            except (artifacts.Gone, store.StoreError):
                if self.load().get("ref") == ref:
                    raise
                # Another job has put a new one in its place meanwhile.

    def _copy(self, ref: Dict[str, Any], folder: str) -> str:
        os.makedirs(folder, 0o700, True)
        target = os.path.join(folder, "%s-%x" % (ref["sha256"][:16], time.time_ns()))
        os.mkdir(target, 0o700)
        path = os.path.join(target, os.path.basename(ref.get("path") or "") or "checkpoint")
        if not ref.get("folder"):
            artifacts.receive(self._master, ref, path, self._deadline, _alive)
            return path
        packed = path + ".zip"
        artifacts.receive(self._master, ref, packed, self._deadline, _alive)
        disk = os.statvfs(target)
        folders.unpack(packed, path, disk.f_bavail * disk.f_frsize)
        os.unlink(packed)
        return path

    def state(self) -> Dict[str, Any]:
        return dict(self.load().get("state") or {})

    def put_state(self, state: Dict[str, Any]) -> None:
        """Keep the mapping; beside the file, which stays."""
        self._change(lambda found: dict(found, state=state))

    def end(self) -> bool:
        """The run has succeeded, so nobody else is to go on from here; whether there is something to remove."""
        if not self.load():
            return False
        self._change(lambda found: dict(found, done=self._owner))
        return True

    def remove(self) -> None:
        """Remove the files and the value. Call this only when the run's record says that it has succeeded."""
        text = store.persist(partial(self._master.get, self._key), self._deadline())
        if text is None:
            return
        import json

        self._remove(_listed(json.loads(text)))
        if self._master.trusted:
            self._master.swap(self._key, text, None)
        else:
            # It cannot delete.
            self._change(lambda _: {"done": self._owner})


def _listed(found: Dict[str, Any]) -> List[Dict[str, Any]]:
    return list(found.get("stale") or []) + ([found["ref"]] if found.get("ref") else [])


def _alive() -> None:
    """Do nothing: the launcher sends the heartbeats meanwhile."""
