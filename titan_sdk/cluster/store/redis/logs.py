"""Logs of jobs in Redis, for engines whose jobs run on other machines."""

from __future__ import annotations

from collections.abc import Collection

from titan_sdk.cluster.logs import MAX_LOG_REPLY, marker, note_line, tail_of
from titan_sdk.cluster.store.changes import AddNote, AppendLog
from titan_sdk.cluster.store.journal import Journal
from titan_sdk.cluster.store.redis.client import RedisClient

__all__ = ["RedisLogs"]


class RedisLogs:
    """Implements ``LogStore``. Written through the journal, so only by the master that holds the lease.

    Args:
        cap: the most bytes of a log.
    """

    def __init__(self, client: RedisClient, journal: Journal, cap: int) -> None:
        self._client, self._journal, self._cap = client, journal, cap

    def drop(self, job_id: str) -> None:
        """Nothing to do: a log is removed together with its job's row, or replaced by a later submission's."""

    def note(self, job_id: str, sentence: str) -> None:
        self._journal.record(AddNote(job_id, note_line(sentence), self._cap))

    async def append(self, job_id: str, run: str, offset: int, data: bytes) -> int:
        return int(str(await self._journal.write(AppendLog(job_id, run, offset, data, self._cap))))

    async def read_range(self, job_id: str, offset: int, length: int) -> tuple[bytes, int]:
        key = self._client.key(f"log:{job_id}")
        size = int(await self._client.call("STRLEN", key))
        if not size:
            raise FileNotFoundError(job_id)
        if size <= self._cap:
            return await self._piece(key, offset, length), size
        data = await self._piece(key, offset, min(length, self._cap - offset)) if offset < self._cap else b""
        end, behind = marker(self._cap), max(offset - self._cap, 0)
        return data + end[behind : behind + length - len(data)], self._cap + len(end)

    async def _piece(self, key: bytes, offset: int, length: int) -> bytes:
        return bytes(await self._client.call("GETRANGE", key, offset, offset + length - 1)) if length else b""

    async def read(self, job_id: str) -> str:
        try:
            size = (await self.read_range(job_id, 0, 0))[1]
            start = max(size - MAX_LOG_REPLY, 0)
            data, size = await self.read_range(job_id, start, MAX_LOG_REPLY)
        except FileNotFoundError:
            return ""
        return tail_of(lambda offset, length: (data[max(offset - start, 0) :][:length], size), MAX_LOG_REPLY)

    async def ended(self, job_id: str) -> None:
        """Nothing to do: the log is already written, and within its limit."""

    async def limit(self, job_ids: Collection[str]) -> None:
        """Nothing to do: output above the limit is not stored."""
