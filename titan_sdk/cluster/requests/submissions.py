"""SUBMIT: a DAG with what TitanStore is to hold of it, in one transaction, however often the request arrives."""

from __future__ import annotations

from collections.abc import Sequence

from titan_sdk.cluster import sdk_keys
from titan_sdk.cluster.master.admission import check_graph, compute, foreign_parents, is_large, read_dag
from titan_sdk.cluster.master.master import Master
from titan_sdk.cluster.master.state import State
from titan_sdk.cluster.store.changes import Change, Delete, Put
from titan_sdk.model.status import JobStatus
from titan_sdk.wire.extensions import Submit, write_object
from titan_sdk.wire.jobs import JobLine

__all__ = ["Submissions", "checked_dag"]

_IN_USE = {JobStatus.PENDING, JobStatus.RUNNING, JobStatus.CANCELLED}


class Submissions:
    """Takes whole submissions."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._state = master.state

    async def submit(self, payload: bytes) -> str:
        """Take all of it, or nothing; a copy of what was taken is taken, too."""
        request = Submit.decode(payload)
        lines, numbers = await checked_dag(self._state, request.dag)
        ids = [line.job_id for line in lines]
        while True:
            for job_id in ids:
                await self._master.arrived(job_id)
            known = await self._state.numbers(ids)
            if len(known) == len(ids) and await self._state.store.get(request.mark) is not None:
                return write_object(taken=True)
            # A copy may have come meanwhile, and be on its way into the store.
            if not any(map(self._master.is_arriving, ids)):
                break
        for job_id in known:
            state = self._state.status(job_id)
            if state in _IN_USE:
                return write_object(taken=False, id=job_id, state=state)
        dag = sdk_keys.dag_of(request.mark)
        if dag is not None and sdk_keys.is_job(dag[0], ids):
            dag = None
        await self._master.submit(lines, numbers, _values(request, list(known)), dag)
        return write_object(taken=True)


async def checked_dag(state: State, payload: str) -> tuple[list[JobLine], dict[str, int]]:
    """The jobs of a DAG that can be carried out, and the numbers of the parents that are not among them.

    Raises:
        Refused: see ``read_dag`` and ``check_graph``.
    """
    large = is_large(payload)
    lines = await compute(read_dag, payload, in_thread=large)
    numbers = await state.numbers(foreign_parents(lines))
    await compute(check_graph, lines, numbers.__contains__, in_thread=large)
    return lines, numbers


def _values(request: Submit, known: Sequence[str]) -> list[Change]:
    """The values, and an end of the records of earlier submissions of these ids."""
    old = (sdk_keys.record_key(job_id) for job_id in known)
    return [
        *(Delete(key) for key in old if key not in request.values),
        *(Put(key, value) for key, value in request.values.items()),
    ]
