"""WAIT, JOB_INFO and LOG_READ: questions about jobs that Titan v1 does not have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TypeVar

from titan_sdk.cluster import sdk_keys
from titan_sdk.cluster.logs import LogStore
from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.master.pending_reasons import pending_reason
from titan_sdk.cluster.master.scheduler.jobs import Job, Phase
from titan_sdk.cluster.master.state import JobWaiter
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.extensions import JobInfo, LogRead, Wait, write_object

__all__ = ["JobQuestions"]

T = TypeVar("T")

_STEP = 500
"""Jobs of a WAIT that are checked in one turn of the loop."""
_LOG_PIECE = 1024 * 1024
"""The most bytes of a log in one reply."""
_REPORT_BYTES = 1024 * 1024
"""The most bytes of records and log ends in one reply. The last one may exceed it."""
_TAIL_LINES = 20
_TAIL_BYTES = 16 * 1024
_LAST_OFFSET = 2**53
"""An offset behind the end of any file, but within the range of a system call."""
_LONGEST_CHARACTER = 4
"""The length of the longest UTF-8 sequence, in bytes."""


class JobQuestions:
    """Reads the master's state. Changes nothing."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._state = master.state

    async def wait(self, payload: bytes) -> str:
        """Answer when one of the jobs (or every one) has ended, or when the given time is over."""
        request = Wait.decode(payload.decode("utf-8", "replace"))
        ids = await self._state.resolve_all(request.ids)
        try:
            async with asyncio.timeout(request.seconds):
                while request.seconds and not self._state.waiters.closed:
                    with self._state.waiters.watch(every=request.every) as watch:
                        if await self._is_news(ids.values(), watch, request.every):
                            break
                        await watch.event.wait()
        except TimeoutError:
            pass
        found = await self._state.statuses(ids.values())
        states = {given: found[job_id] or "NULL" for given, job_id in ids.items()}
        if not request.reports:
            return write_object(states=states)
        # A state may be one commit ahead of the record that is stored with it.
        await self._master.flushed()
        return write_object(states=states, reports=await self._reports(request, ids, states))

    async def _reports(
        self, request: Wait, ids: Mapping[str, str], states: Mapping[str, JobStatus | str]
    ) -> dict[str, dict[str, str | None]]:
        """The records of these jobs' runs, as far as they fit into a reply."""
        found: dict[str, dict[str, str | None]] = {}
        room = _REPORT_BYTES
        async for given, nonce in _in_turns(request.reports.items()):
            state = JobStatus.from_wire(states.get(given, "NULL"))
            if given not in ids or (request.seconds and not state.is_terminal):
                continue
            report = found[given] = await self._report(ids[given], nonce, state)
            room -= sum(len(text or "") for text in report.values())
            if room < 0:
                break
        return found

    async def _report(self, job_id: str, nonce: str | None, state: JobStatus) -> dict[str, str | None]:
        store = self._state.store
        if nonce is None:
            nonce = sdk_keys.nonce_of(await store.get(sdk_keys.record_key(job_id)))
        record = None if nonce is None else await store.get(sdk_keys.run_key(job_id, nonce))
        report = {"nonce": nonce, "record": record}
        if state is JobStatus.DEAD and sdk_keys.logs_to_master(record):
            report["tail"] = await self._tail(job_id)
        return report

    async def _tail(self, job_id: str) -> str:
        logs = self._state.logs
        try:
            size = (await logs.read_range(job_id, _LAST_OFFSET, 0))[1]
            data, _ = await logs.read_range(job_id, max(size - _TAIL_BYTES, 0), _TAIL_BYTES)
        except FileNotFoundError:
            return ""
        return "\n".join(data.decode("utf-8", "replace").splitlines()[-_TAIL_LINES:])

    async def _is_news(self, job_ids: Iterable[str], watch: JobWaiter, every: bool) -> bool:
        """Whether the answer is ready. If not, the jobs that it depends on are watched."""
        none_known = True
        async for job_id in self._state.at_hand(job_ids):
            state = self._state.status(job_id)
            # With ``every``, an unknown id ends the wait.
            if (state is None) if every else (state is not None and state.is_terminal):
                return True
            none_known = none_known and state is None
            if state is None or not state.is_terminal:
                watch.add(job_id)
        # If no id is known, no job can end.
        return not watch.job_ids if every else none_known

    async def info(self, payload: bytes) -> str:
        """The master's details of one job."""
        job_id = await self._state.resolve(JobInfo.decode(payload.decode("utf-8", "replace")).job_id)
        # A decision of the current turn of the loop is not in the row yet.
        await self._master.flushed()
        await self._state.store.bring((job_id,))
        row = self._state.store.job(job_id)
        if row is None:
            return f"ERROR_NOT_FOUND: no job {job_id!r}"
        job = self._state.scheduler.jobs.get(job_id)
        return write_object(
            state=self._state.status(job_id) or "NULL",
            reason=row.reason or (pending_reason(self._master, job) if job is not None else None),
            stopping=self._master.is_stopping(job_id),
            attempts=row.attempts,
            worker=row.worker,
            exit_code=row.exit_code,
            submitted_at=row.submitted_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            ahead=self._ahead(job),
            history=[
                [entry.at, f"{entry.event}: {entry.detail}" if entry.detail else entry.event]
                for entry in await self._state.store.history(job_id)
            ],
        )

    def _ahead(self, job: Job | None) -> int | None:
        if job is None or job.phase is not Phase.READY:
            return None
        return self._state.scheduler.ahead_of(job)

    async def read_log(self, payload: bytes) -> str:
        """A piece of the job's log as the master keeps it."""
        request = LogRead.decode(payload.decode("utf-8", "replace"))
        job_id = await self._state.resolve(request.job_id)
        if request.nonce is not None:
            record = await self._state.store.get(sdk_keys.record_key(job_id))
            if sdk_keys.nonce_of(record) != request.nonce:
                return write_object(text="", next=request.offset, ended=True)
        status = self._state.status(job_id)
        # This check must precede the read: output that is appended later must not be taken for the end.
        over = status is None or status.is_terminal
        text, offset, at_end = await _read_piece(self._state.logs, job_id, request, over)
        return write_object(text=text, next=offset, ended=over and at_end)


async def _in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items. Other connections get a turn now and then."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _STEP == 0:
            await asyncio.sleep(0)


async def _read_piece(logs: LogStore, job_id: str, request: LogRead, over: bool) -> tuple[str, int, bool]:
    """The requested text, the offset behind it, and whether that is the end of the log."""
    offset, length = max(request.offset, 0), _LOG_PIECE
    if request.until is not None:
        length = max(min(length, request.until - offset), 0)
    try:
        data, size = await logs.read_range(job_id, min(offset, _LAST_OFFSET), length)
    except FileNotFoundError:
        return "", offset, True
    offset = min(offset, size)
    if not (over and offset + len(data) >= size):
        data = data[: _whole_characters(data)]
    return data.decode("utf-8", "replace"), offset + len(data), offset + len(data) >= size


def _whole_characters(data: bytes) -> int:
    """The length without an incomplete last character."""
    for back in range(1, min(_LONGEST_CHARACTER, len(data) + 1)):
        byte = data[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if needed > back else len(data)
    return len(data)
