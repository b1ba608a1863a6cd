"""What a job keeps for the case that it is killed: a file or folder, the step that it stands for, and a small mapping.

One value in the store says all of it, so a kill at any moment leaves either the earlier checkpoint or the new one: a new
file has a name of its own, the value names it only once it is whole, and only then is the earlier file removed. What a
kill leaves besides, the value lists as stale, for the next one who writes.
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
VARIABLE = "TITAN_CHECKPOINT"
"""Tells a job the key of its checkpoint, if that is not its run's own."""


class Checkpoint:
    """The checkpoint of a key, for one attempt of one run."""

    def __init__(
        self, master: store.StoreConnection, run: Dict[str, Any], key: Optional[str], deadline: Deadline
    ) -> None:
        """`key` is a key of TitanStore; None is the run's own."""
        self._master, self._run, self._deadline = master, run, deadline
        self._is_own = key is None
        self._key = key or keys.checkpoint_key(run["id"], run["nonce"])
        self._owner = "%s:%s" % (run["id"], run["nonce"])

    def load(self) -> Dict[str, Any]:
        """What is stored: empty where nothing is, or where the run that wrote it has succeeded."""
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
        """Keep a file or folder in the place of the earlier one."""
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
        """What may be there if this attempt is killed now."""
        count = 1 if self._master.trusted else -(-os.stat(path).st_size // limits.PART)
        return {"name": name, "parts": [""] * count} if count > 1 else {"name": name}

    def _remove(self, refs: List[Dict[str, Any]]) -> None:
        for ref in refs:
            artifacts.remove(self._master, ref, self._deadline)

    def restore(self, folder: str) -> Optional[Tuple[str, Any]]:
        """A copy of what was kept last below a folder, and its step; None where nothing was."""
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
        """Keep the mapping; beside the file, which stays."""
        self._store(dict(self.load(), state=state))

    def end(self) -> bool:
        """The run has succeeded, so nobody else is to go on from here; whether there is something to remove."""
        found = self.load()
        if found:
            self._store(dict(found, done=self._owner))
        return bool(found)

    def remove(self) -> None:
        """Remove files and value, once the run's own record says that it has succeeded."""
        text = store.persist(partial(self._master.get, self._key), self._deadline())
        if text is None:
            return
        import json

        self._remove(_listed(json.loads(text)))
        if self._master.trusted:
            self._master.swap(self._key, text, None)
        else:
            # It cannot delete.
            self._store({"done": self._owner})


def _listed(found: Dict[str, Any]) -> List[Dict[str, Any]]:
    return list(found.get("stale") or []) + ([found["ref"]] if found.get("ref") else [])


def _alive() -> None:
    """The launcher says so meanwhile."""
