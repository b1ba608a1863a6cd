"""Group commit over a network: what comes while one commit is under way is the next one. One round trip each.

Every commit has a number, and the server remembers the last one with its results. So a commit whose reply was lost
is sent again until it is known what became of it, and is done once. Commits that a crashed server has forgotten
although it had acknowledged them (``appendfsync everysec``) are sent again too, from the last seconds' memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from titan_sdk.cluster.clock import Clock
from titan_sdk.cluster.store import changes
from titan_sdk.cluster.store.base import StoreFailed, Unstorable
from titan_sdk.cluster.store.journal import RETRY_SECONDS, Entry, client_entry, tell
from titan_sdk.cluster.store.redis import script
from titan_sdk.cluster.store.redis.batch import Batch
from titan_sdk.cluster.store.redis.lease import Lease, describe
from titan_sdk.cluster.store.redis.link import Gap, InDoubt, Link, LostLease, MemoryFull
from titan_sdk.cluster.store.redis.mirror import Mirror

__all__ = ["RedisJournal"]

log = logging.getLogger(__name__)

_BATCH_ENTRIES = 500
_REMEMBERED_SECONDS = 5.0
_REMEMBERED_BYTES = 32 * 1024 * 1024
_FREEING = (
    changes.RemoveMember,
    changes.Delete,
    changes.Sweep,
    changes.ForgetJobs,
)

Change = changes.Change


def _frees(change: Change) -> bool:
    if isinstance(change, changes.Once):
        change = change.change
    return isinstance(change, _FREEING) or (isinstance(change, changes.Swap) and change.value is None)


@dataclass(slots=True)
class _Commit:
    number: int
    entries: list[tuple[Entry[Change], int | None]]
    batch: Batch
    words: list[Any]
    size: int
    at: float = 0.0


class RedisJournal:
    """Implements ``Writes``.

    Args:
        lost: called once, with why, when this master must not write any more.
    """

    def __init__(
        self,
        link: Link,
        lease: Lease,
        mirror: Mirror,
        clock: Clock,
        lost: Callable[[str], None],
    ) -> None:
        self._link, self._lease, self._mirror = link, lease, mirror
        self._clock = clock
        self._on_lost = lost
        self._loop = asyncio.get_running_loop()
        self._pending: list[Entry[Change]] = []
        self._number = lease.last
        self._doubtful: _Commit | None = None
        self._remembered: deque[_Commit] = deque()
        self._remembered_size = 0
        self._down: StoreFailed | None = None
        """Why clients are refused at once, until the next attempt."""
        self.lost: StoreFailed | None = None
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    # ------------------------------------------------------------------ Writes

    @property
    def failing(self) -> StoreFailed | None:
        """See ``Writes``."""
        return self.lost or self._down

    def write(self, *new: Change) -> asyncio.Future[object]:
        """See ``Writes``."""
        future: asyncio.Future[object] = self._loop.create_future()
        self._add(client_entry(future, new))
        return future

    def write_with(
        self, change: Change, done: Callable[[object], None], failed: Callable[[StoreFailed], None]
    ) -> None:
        """See ``Writes``."""
        self._add(Entry((change,), done, failed))

    def record(self, *new: Change, then: Callable[[], None] | None = None) -> None:
        """See ``Writes``."""
        self._add(Entry(new, None if then is None else lambda _: then(), None))

    def commit(self) -> None:
        """See ``Writes``: there is a round trip to wait for."""

    async def settle(self, seconds: float) -> bool:
        """Wait until nothing is pending; false if that took too long."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Try nothing more; what is not stored by now is not."""
        self._stopped = True
        if self._task is not None:
            await self._task

    def lose(self, exc: LostLease) -> None:
        """Another master writes here, or nothing is left: refuse everything from now on."""
        if self.lost is not None:
            return
        where = f"{self._link.location.shown} under the prefix {self._link.location.prefix!r}"
        why = (
            f"the store {where} was emptied or restored while this master used it"
            if str(exc) == "emptied"
            else f"{exc}"
            if str(exc).startswith("the store")
            else f"another master ({describe(str(exc))}) has taken over {where}"
        )
        self.lost = StoreFailed(why)
        self._on_lost(why)

    # ------------------------------------------------------------------ the loop

    def _add(self, entry: Entry[Change]) -> None:
        refused = self.lost or self._down
        if refused is not None and (entry.failed is not None or self.lost is not None):
            if entry.failed is not None:
                # In a later turn: whoever wrote it is not ready to hear of it.
                self._loop.call_soon(entry.failed, refused)
            return
        self._pending.append(entry)
        if self._task is None:
            self._idle.clear()
            self._task = self._loop.create_task(self._work())

    async def _work(self) -> None:
        try:
            while (self._pending or self._doubtful is not None) and self.lost is None and not self._stopped:
                await self._step()
        finally:
            self._task = None
            if self.lost is not None or self._stopped:
                self._refuse(self.lost or StoreFailed("the master has stopped"))
            self._idle.set()

    async def _step(self) -> None:
        """One commit: the doubtful one, or what is pending."""
        commit = self._doubtful
        try:
            if commit is None:
                commit = self._take()
            results = await self._send(commit)
        except LostLease as exc:
            self._put_back(commit)
            self.lose(exc)
        except InDoubt as exc:
            # Unless it was a read for the plan that got no answer: then nothing was sent.
            self._doubtful = commit
            await self._wait(exc, commit)
        except MemoryFull as exc:
            await self._without_clients(exc, commit)
        except StoreFailed as exc:
            await self._wait(exc, commit)
        except Exception as exc:  # noqa: BLE001
            # Nobody knows how far it came; what was acknowledged is not forgotten for it.
            self._doubtful = commit
            await self._wait(_failure(exc), commit)
        else:
            self._doubtful = self._down = None
            self._conclude(commit, results)

    def _take(self) -> _Commit:
        taken, self._pending = self._pending[:_BATCH_ENTRIES], self._pending[_BATCH_ENTRIES:]
        entries: list[tuple[Entry[Change], int | None]] = []
        batch = Batch(self._mirror, self._link, self._clock.now())
        for place, entry in enumerate(taken):
            try:
                entries.append((entry, batch.add(entry.changes)))
            except Exception as exc:
                failure = _failure(exc)
                if isinstance(exc, StoreFailed) or entry.failed is None:
                    # Nothing was sent: all of it is tried again.
                    self._pending[:0] = [*(one for one, _ in entries if one is not entry), *taken[place:]]
                    raise failure from exc
                tell(self._loop, entry.failed, failure)
        words = batch.words()
        size = sum(len(word) for word in words if isinstance(word, bytes))
        return _Commit(self._number + 1, entries, batch, words, size)

    async def _send(self, commit: _Commit, text: str = script.COMMIT) -> list[Any]:
        while True:
            try:
                reply = await self._link.run(text, *self._lease.words(), commit.number, *commit.words)
                # Lua's empty table is no list to its JSON.
                return list(json.loads(reply) or [])
            except Gap as gap:
                await self._repeat(gap, commit.number)

    async def _repeat(self, gap: Gap, number: int) -> None:
        """The server came back without commits that it had acknowledged: once more, in order."""
        missing = [old for old in self._remembered if gap.last < old.number < number]
        if [old.number for old in missing] != list(range(gap.last + 1, number)):
            raise LostLease(
                f"the store {self._link.location.shown} has lost commits {gap.last + 1} to {number - 1}, which it had "
                "acknowledged; run it with appendonly yes and appendfsync always. What it has is what the next master "
                "goes on with"
            )
        log.warning("the store had forgotten %d commits; they are sent again", len(missing))
        for old in missing:
            await self._link.run(script.COMMIT, *self._lease.words(), old.number, *old.words)

    def _conclude(self, commit: _Commit, results: list[Any]) -> None:
        self._number = commit.number
        commit.batch.apply()
        self._remember(commit)
        for entry, index in commit.entries:
            tell(self._loop, entry.done, None if index is None else results[index])
        commit.entries = []

    def _remember(self, commit: _Commit) -> None:
        commit.at = self._loop.time()
        self._remembered.append(commit)
        self._remembered_size += commit.size
        oldest = commit.at - _REMEMBERED_SECONDS
        while self._remembered_size > _REMEMBERED_BYTES or self._remembered[0].at < oldest:
            self._remembered_size -= self._remembered.popleft().size
            if not self._remembered:
                break

    # ------------------------------------------------------------------ failures

    def _put_back(self, commit: _Commit | None) -> None:
        """Nothing of it was done."""
        if commit is not None and commit is not self._doubtful:
            self._pending[:0] = [entry for entry, _ in commit.entries]

    async def _wait(self, exc: StoreFailed, commit: _Commit | None) -> None:
        """Refuse clients, keep the rest in order, and try again in a moment."""
        if self._down is None:
            log.error("cannot write the master's state: %s", exc)
        self._down = exc
        self._put_back(commit)
        kept = [entry for entry in self._pending if entry.failed is None]
        refused = [entry for entry in self._pending if entry.failed is not None]
        self._pending = kept
        for entry in refused:
            tell(self._loop, entry.failed, exc)
        await asyncio.sleep(RETRY_SECONDS)
        if not self._pending and self._doubtful is None:
            self._down = None

    async def _without_clients(self, exc: StoreFailed, commit: _Commit | None) -> None:
        """Memory is full: clients' writes are refused, but jobs go on, and what frees room is done."""
        if commit is None or commit is self._doubtful:
            await self._wait(exc, commit)
            return
        kept = []
        for entry, _ in commit.entries:
            if entry.failed is None or all(map(_frees, entry.changes)):
                kept.append(entry)
            else:
                tell(self._loop, entry.failed, exc)
        if not kept:
            return
        log.error("the store takes clients' writes no more: %s", exc)
        later, self._pending = self._pending, kept
        smaller = None
        try:
            smaller = self._take()
            results = await self._send(smaller, script.ALLOW_OOM + script.COMMIT)
        except LostLease as lost:
            self._put_back(smaller)
            self.lose(lost)
        except InDoubt as doubt:
            self._doubtful = smaller
            await self._wait(doubt, smaller)
        except StoreFailed as failed:
            await self._wait(failed, smaller)
        else:
            self._conclude(smaller, results)
        self._pending += later

    def _refuse(self, exc: StoreFailed) -> None:
        doubtful = [] if self._doubtful is None else [entry for entry, _ in self._doubtful.entries]
        waiting, self._pending, self._doubtful = [*doubtful, *self._pending], [], None
        for entry in waiting:
            tell(self._loop, entry.failed, exc)


def _failure(exc: Exception) -> StoreFailed:
    if isinstance(exc, StoreFailed):
        return exc
    if isinstance(exc, UnicodeError):
        return Unstorable(str(exc))
    return StoreFailed(f"{type(exc).__name__}: {exc}")
