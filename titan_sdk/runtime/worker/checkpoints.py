"""The checkpoint of a job, from which it continues after a kill: a file or folder, its step, and a small mapping.

One value in the store describes the checkpoint. A new file has a name of its own, the value names it when it is complete,
and then the earlier file is removed. So a kill at any moment leaves either the earlier checkpoint or the new one. The
value also lists files that a kill may leave behind, and the next writer removes them.
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
"""A file in the job's folder. It exists if the job has read or written a checkpoint."""
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

    def load(self) -> Dict[str, Any]:
        """The stored checkpoint; empty if there is none, or if the run that wrote it has succeeded."""
        text = store.persist(partial(self._master.get, self._key), self._deadline())
        if text is None:
            return {}
        import json

        found = dict(json.loads(text))
        if found.get("done") not in (None, self._owner):
            return {"stale": _listed(found)}
        found.pop("done", None)
        return found

    def _store(self, fields: Dict[str, Any]) -> None:
        text = dumps(dict(fields, v=1))
        try:
            store.persist(partial(self._master.confirm, self._key, text), self._deadline())
        except store.Contended:
            raise store.StoreError(
                "somebody else writes the checkpoint %s at this moment; two jobs that run at once need two keys"
                % self._key
            ) from None

    def save(self, path: str, step: Any, scratch: str) -> None:
        """Replace the earlier file or folder by a new one."""
        before = self.load()
        self._remove(before.get("stale") or [])
        is_folder = os.path.isdir(path)
        if is_folder:
            folders.pack(path, scratch)
        try:
            source = scratch if is_folder else path
            name = self._new_name(os.path.basename(os.path.normpath(path)))
            self._store(dict(before, stale=[self._intended(name, source)]))
            ref = artifacts.send(self._master, name, source, self._deadline, _alive)
        finally:
            if is_folder:
                os.unlink(scratch)
        ref["path"] = os.path.basename(os.path.normpath(path))
        if is_folder:
            ref["folder"] = True
        earlier = [before["ref"]] if before.get("ref") else []
        self._store(
            dict(
                before,
                ref=ref,
                step=step,
                saved_at=round(time.time(), 3),
                job=self._run["id"],
                attempt=self._run["attempt"],
                stale=earlier,
            )
        )
        self._remove(earlier)

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
        """Copy the last checkpoint to a place below a folder. Returns its path and step; None if there is no checkpoint."""
        found = self.load()
        ref = found.get("ref")
        if ref is None:
            return None
        os.makedirs(folder, 0o700, True)
        target = os.path.join(folder, "%s-%x" % (ref["sha256"][:16], time.time_ns()))
        os.mkdir(target, 0o700)
        path = os.path.join(target, os.path.basename(ref.get("path") or "") or "checkpoint")
        if not ref.get("folder"):
            artifacts.receive(self._master, ref, path, self._deadline, _alive)
            return path, found.get("step")
        packed = path + ".zip"
        artifacts.receive(self._master, ref, packed, self._deadline, _alive)
        disk = os.statvfs(target)
        folders.unpack(packed, path, disk.f_bavail * disk.f_frsize)
        os.unlink(packed)
        return path, found.get("step")

    def state(self) -> Dict[str, Any]:
        return dict(self.load().get("state") or {})

    def put_state(self, state: Dict[str, Any]) -> None:
        """Store the mapping. The file stays."""
        self._store(dict(self.load(), state=state))

    def end(self) -> bool:
        """Mark the checkpoint as over after the run's success. Returns whether there is something to remove."""
        found = self.load()
        if found:
            self._store(dict(found, done=self._owner))
        return bool(found)

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
            # A real master cannot delete.
            self._store({"done": self._owner})


def _listed(found: Dict[str, Any]) -> List[Dict[str, Any]]:
    return list(found.get("stale") or []) + ([found["ref"]] if found.get("ref") else [])


def _alive() -> None:
    """Do nothing: the launcher sends the heartbeats meanwhile."""
