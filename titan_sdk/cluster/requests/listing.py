"""LIST and CHANGES: pages of jobs, services, DAGs and artifacts, and the changes of jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.store.rows import JobRow, ServiceState
from titan_sdk.errors import PeerProtocolError
from titan_sdk.model.listing import ListedArtifact, ListedDag, ListedJob
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.extensions import write_object
from titan_sdk.wire.listing import Changes, List, write_item

__all__ = ["Lists"]

_BYTES = 1024 * 1024
"""The largest size of the items of a reply, in bytes. The last item may exceed it."""
_REASON = 500
"""The longest reason in an item, in characters."""
_CHANGED_JOBS = 500
"""The most changes of one reply."""
_GATHERED_SECONDS = 0.1
"""Seconds to wait for more changes after the first one: a busy master then answers a client 10 times a second, not 1,000."""


class Lists:
    """Reads the store and the artifacts. Changes nothing."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._uploads = master.uploads
        self._store = master.state.store
        self._waiters = master.state.waiters

    async def page(self, payload: bytes) -> str:
        """A page of jobs, services, DAGs or artifacts."""
        request = List.decode(payload.decode("utf-8", "replace"))
        changes = self._store.journal.feed.cursor()
        total: int | None = None
        if request.what == "artifacts":
            files = await asyncio.to_thread(_artifacts, await self._files(), request)
            total = len(files) if request.count else None
            items = [((file.modified_at, file.name), write_item(file)) for file in _behind(files, request)]
        else:
            items = await self._rows(request)
            if request.count:
                total = await self._store.count_listed(request)
        shown, cursor = _cut(items, request.limit)
        more = {} if total is None else {"total": total}
        return write_object(items=shown, cursor=cursor, changes=changes, **more)

    async def _files(self) -> list[ListedArtifact]:
        try:
            return await asyncio.to_thread(self._uploads.listed)
        except OSError as exc:
            raise PeerProtocolError(f"the artifacts cannot be listed: {exc}") from exc

    async def _rows(self, request: List) -> list[tuple[tuple[float, str], dict[str, Any]]]:
        items = []
        for row in await self._store.listed(request):
            key = {"newest": row.seq, "oldest": -row.seq, "started": row.started_at, "ended": row.ended_at}
            item: ListedJob | ListedDag
            if request.what == "dags":
                await asyncio.sleep(0)
                item = await self._dag(row)
            else:
                item = _job(row)
            items.append(((key[request.order] or 0.0, str(row.seq)), write_item(item)))
        return items

    async def _dag(self, newest: JobRow) -> ListedDag:
        name, run = newest.dag or "", newest.dag_run or ""
        found = await self._store.dag(name, run)
        states = {JobStatus(status): count for status, count, *_ in found}
        started = [at for *_, at, _ in found if at is not None]
        ended = [at for *_, at in found if at is not None]
        over = all(state.is_terminal for state in states)
        return ListedDag(
            name,
            run,
            states,
            min((at for _, _, at, *_ in found), default=newest.submitted_at),
            min(started, default=None),
            max(ended, default=None) if over else None,
        )

    # ------------------------------------------------------------------ changes

    async def changes(self, payload: bytes) -> str:
        """The jobs that have changed since a cursor; answered at the first change, or when the time is over."""
        request = Changes.decode(payload.decode("utf-8", "replace"))
        feed = self._store.journal.feed
        known = feed.number(request.cursor)
        if known is None:
            return write_object(jobs=[], removed=[], cursor=feed.cursor(), again=True)
        with self._waiters.watch() as watch, feed.waking(watch.event):
            if request.seconds and not feed.since(known, 1)[0] and not self._waiters.closed:
                try:
                    async with asyncio.timeout(request.seconds):
                        await watch.event.wait()
                    await asyncio.sleep(_GATHERED_SECONDS)
                except TimeoutError:
                    pass
        if feed.number(request.cursor) is None:
            return write_object(jobs=[], removed=[], cursor=feed.cursor(), again=True)
        job_ids, number = feed.since(known, _CHANGED_JOBS)
        await self._store.bring(job_ids)
        rows = {job_id: self._store.job(job_id) for job_id in job_ids}
        # A row may be one commit ahead of the store. A list that follows must not be behind this answer.
        await self._master.flushed()
        return write_object(
            jobs=[write_item(_job(row)) for row in rows.values() if row is not None],
            removed=[job_id for job_id, row in rows.items() if row is None],
            cursor=feed.cursor(number),
            again=False,
        )


def _job(row: JobRow) -> ListedJob:
    return ListedJob(
        job_id=row.job_id,
        state=row.status,
        submitted_at=row.submitted_at,
        tag=row.tag,
        dag=row.dag,
        run=row.dag_run,
        service=_service(row),
        attempts=row.attempts,
        worker=row.worker,
        exit_code=row.exit_code,
        reason=None if row.reason is None else row.reason[:_REASON],
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def _service(row: JobRow) -> str | None:
    if row.service == ServiceState.NO:
        return None
    if row.service == ServiceState.LIVE:
        return "live"
    return "ended" if row.status.is_terminal else "starting"


def _artifacts(files: Sequence[ListedArtifact], request: List) -> list[ListedArtifact]:
    prefix, contained = request.prefix or "", (request.contains or "").lower()
    found = [
        file
        for file in files
        if file.name.startswith(prefix)
        and contained in file.name.lower()
        and (request.since is None or file.modified_at >= request.since)
        and (request.until is None or file.modified_at < request.until)
    ]
    newest = request.order == "newest"
    return sorted(found, key=lambda file: (file.modified_at, file.name), reverse=newest)


def _behind(files: Sequence[ListedArtifact], request: List) -> list[ListedArtifact]:
    """The items of a page behind the cursor, and one more."""
    after, newest = request.after, request.order == "newest"
    if after is not None:
        files = [
            file
            for file in files
            if ((file.modified_at, file.name) < after) == newest and (file.modified_at, file.name) != after
        ]
    return list(files[: request.limit + 1])


def _cut(
    items: Sequence[tuple[tuple[float, str], dict[str, Any]]], limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """The items that fit into a reply, and the cursor behind them if there are more."""
    room = _BYTES
    for place, (_, item) in enumerate(items, 1):
        room -= len(json.dumps(item))
        if (place == limit or room < 0) and place < len(items):
            key, name = items[place - 1][0]
            return [item for _, item in items[:place]], f"{key!r}:{name}"
    return [item for _, item in items], None
