"""The front's half of the Ray engine: what the master asks becomes commands, what the bridge says, results."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Protocol

from titan_sdk.cluster.artifacts import Area
from titan_sdk.cluster.engines.archives import ArchiveRefused, split_pointer
from titan_sdk.cluster.engines.base import Placed, Process, RunRequest, RunResult, StagingFailed
from titan_sdk.cluster.engines.ray.bridge_link import BridgeLink
from titan_sdk.cluster.engines.ray.outbox import Outbox
from titan_sdk.cluster.engines.ray.resources import resources_of
from titan_sdk.cluster.engines.ray.runs import Run, result_of
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.engines.ray.values import (
    ClusterState,
    Config,
    News,
    NodeState,
    Setup,
    Spec,
    unpack,
)
from titan_sdk.cluster.engines.staging import ARCHIVES, SERVICES
from titan_sdk.cluster.log_store import LogStore
from titan_sdk.cluster.scheduler import Outcome
from titan_sdk.errors import TitanError

__all__ = ["RayEngine"]

log = logging.getLogger(__name__)

NEVER_BEGAN = "the master ended before the job began"
EPOCH_LOST = "the Ray cluster lost track of it: its dispatcher, or the whole cluster, was restarted"


class NodesChanged(Protocol):
    def __call__(self, state: ClusterState, *, reachable: bool) -> None: ...


class RayEngine:
    """Belongs to the loop's thread.

    Args:
        cluster: names the dispatcher: every master of the same store says the same.
        config: what jobs are told; asked for with every connection.
        nodes_changed: called with the live nodes and what could come, and with nothing while the cluster is not ``reachable``.
        ended: called with the pool of every run that is over.
        ends: how many ends may wait to be told together.
    """

    chooses_places = True

    def __init__(
        self,
        settings: RaySettings,
        cluster: str,
        logs: LogStore,
        uploads: Area,
        config: Callable[[], Config],
        nodes_changed: NodesChanged,
        ended: Callable[[str], None],
        ends: Callable[[], int],
    ) -> None:
        self._settings, self._cluster = settings, cluster
        self._logs, self._uploads = logs, uploads
        self._config, self._nodes_changed, self._ended = config, nodes_changed, ended
        self._loop = asyncio.get_running_loop()
        self._front = secrets.token_hex(8)
        self.keeps_runs = settings.keep_jobs
        self._link = BridgeLink(self._setup, self._on_word)
        self._out = Outbox(self._link.send, self._loop, ends)
        self._staged: dict[str, Run] = {}
        """Runs that have not begun."""
        self._runs: dict[str, Run] = {}
        self._strays: set[str] = set()
        """Runs that the dispatcher knows and nobody waits for; they are ended."""
        self._epoch: str | None = None
        self._attached = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._idle = asyncio.Event()
        self.nodes: tuple[NodeState, ...] = ()
        self.trouble: str | None = (
            f"the Ray cluster at {settings.address} has not answered yet; give --ray-address where its head answers "
            "(HOST:6379 on one of its nodes, ray://HOST:10001 from elsewhere)"
        )
        """Why nothing can be started at the moment."""

    # ------------------------------------------------------------------ life

    async def open(self) -> None:
        """Connect; runs that were re-attached before are accounted for.

        Raises:
            TitanError: the cluster did not answer in time.
        """
        self._link.open()
        try:
            async with asyncio.timeout(self._settings.connect_seconds):
                await self._attached.wait()
        except TimeoutError:
            raise TitanError(self.trouble or "the Ray cluster did not answer") from None

    async def abandon(self) -> None:
        """See ``Engine``: the dispatcher and its runs are there for the next master."""
        self._closing = True
        await self._link.close()
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Leave the runs to the next master, or end them, as the settings say."""
        self._closing = True
        if not self._settings.keep_jobs and self._epoch is not None:
            if self._runs:
                for run in list(self._runs.values()):
                    self.kill(run.process)
                await self._idle.wait()
            self._out.flush()
            self._link.send("end")
        self._out.flush()
        await self._link.close()
        for task in self._tasks:
            task.cancel()

    def _setup(self) -> Setup:
        ship = str(Path(__file__).parents[3]) if self._settings.ship_code else None
        return Setup(self._settings.address, self._cluster, self._front, self._config(), ship)

    # ------------------------------------------------------------------ the master's

    async def stage(self, request: RunRequest) -> Process:
        """Prepare it; nothing is sent before ``run``."""
        epoch, archive, content = self._epoch, None, None
        if epoch is None:
            raise StagingFailed(self.trouble or "Ray cannot be reached", Outcome.INTERRUPTED)
        if request.line.header in ARCHIVES:
            pointer = request.line.filename.strip()
            try:
                name, _ = split_pointer(pointer)
                content = await asyncio.to_thread(self._read_upload, name)
            except (ArchiveRefused, OSError) as exc:
                raise StagingFailed(f"the archive {pointer!r} was refused: {exc}") from exc
            archive = name, hashlib.sha256(content).hexdigest()
        run = Run(Process(request, epoch), self._loop.create_future(), archive=content)
        run.spec = Spec(
            request.run,
            request.line,
            resources_of(request.line.requirement, self._settings.tag_resources),
            request.line.header in SERVICES,
            self._node_id(request.near),
            archive,
        )
        self._staged[request.run] = run
        return run.process

    def _read_upload(self, name: str) -> bytes:
        try:
            with self._uploads.local(name) as path:
                return path.read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(
                "it is not among the uploaded files; upload it before submitting the job"
            ) from None

    def _node_id(self, name: str | None) -> str | None:
        return next((node.node_id for node in self.nodes if node.name == name), None)

    async def run(self, process: Process, placed: Placed) -> RunResult:
        """Start it."""
        run = self._runs[process.run] = self._staged.pop(process.run)
        run.on_placed = placed
        if run.epoch == self._epoch:
            assert run.spec is not None
            self._out.start(run.spec, run.archive)
        elif self._epoch is not None:
            # The dispatcher was made anew in between: nothing has begun.
            self._finish(run, RunResult(Outcome.INTERRUPTED, None, EPOCH_LOST))
        return await run.over

    def kill(self, process: Process) -> None:
        """End it."""
        process.killed = True
        if process.run in self._runs:
            self._out.kill(process.run)

    async def reattach(self, process: Process, placed: Placed) -> RunResult:
        """Watch it, if the dispatcher has it."""
        run = Run(process, self._loop.create_future(), placed, taken_over=True)
        self._runs[process.run] = run
        if self._epoch is not None:
            self._account_for({process.run: run}, frozenset())
        return await run.over

    def forget(self, process: Process) -> None:
        """The dispatcher can forget it."""
        self._staged.pop(process.run, None)
        self._out.done(process.run)

    # ------------------------------------------------------------------ the bridge's

    def _on_word(self, word: str, *args: object) -> None:
        getattr(self, f"_on_{word}")(*args)

    def _on_attached(self, epoch: str, runs: list[str], state: ClusterState) -> None:
        self._epoch, self.trouble = epoch, None
        self._out.reset()
        for name in runs:
            if name not in self._runs:
                self._strays.add(name)
        if self._strays:
            for stray in sorted(self._strays):
                self._out.kill(stray)
        known = frozenset(runs)
        self._account_for(dict(self._runs), known)
        self._set_state(state)
        self._attached.set()

    def _account_for(self, runs: dict[str, Run], known: frozenset[str]) -> None:
        """What became of runs whose dispatcher may not be this one."""
        adopted = []
        for name, run in runs.items():
            if name in known:
                if run.killed:
                    self._out.kill(name)
            elif run.epoch != self._epoch:
                if run.request.line.header in SERVICES:
                    adopted.append(name)
                else:
                    self._finish(run, RunResult(Outcome.INTERRUPTED, None, EPOCH_LOST))
            elif run.taken_over:
                self._finish(run, RunResult(Outcome.INTERRUPTED, None, NEVER_BEGAN))
            elif run.spec is not None:
                self._out.start(run.spec, run.archive)
        if adopted:
            self._link.send("adopt", adopted)

    def _on_adopted(self, found: list[str], lost: list[str]) -> None:
        for name in lost:
            run = self._runs.get(name)
            if run is not None:
                self._finish(run, RunResult(Outcome.INTERRUPTED, None, EPOCH_LOST))
        for name in found:
            run = self._runs.get(name)
            if run is not None and run.killed:
                self._out.kill(name)

    def _on_lost(self, sentence: str) -> None:
        self._epoch, self.trouble = None, sentence
        self._out.reset()
        self._set_state(ClusterState())

    def _on_superseded(self, sentence: str) -> None:
        # The bridge that says this ends; the next one would take the cluster back, and so on for ever.
        log.error("%s; this one starts nothing any more", sentence)
        self._on_lost(sentence)
        self._link.stop()

    def _on_news(self, packed: bytes) -> None:
        news: list[News]
        state: ClusterState | None
        news, state = unpack(packed)
        if state is not None:
            self._set_state(state)
        for item in news:
            run = self._runs.get(item.run)
            if run is None:
                if item.finished is not None:
                    self._strays.discard(item.run)
                    self._out.done(item.run)
                continue
            run.inbox.append(item)
            if not run.busy:
                self._hear(run)

    def _set_state(self, state: ClusterState) -> None:
        self.nodes = state.nodes
        if not self._closing:
            self._nodes_changed(state, reachable=self._epoch is not None)

    def _hear(self, run: Run) -> None:
        """What is new about a run, in order; output is stored before its end is reported."""
        while run.inbox:
            item = run.inbox.popleft()
            output = [*item.chunks]
            if item.finished is not None and item.finished.tail:
                output.append((item.finished.offset, item.finished.tail))
            if output:
                run.busy = True
                self._spawn(self._store_and_go_on(run, item, output))
                return
            self._tell(run, item)

    async def _store_and_go_on(self, run: Run, item: News, output: list[tuple[int, bytes]]) -> None:
        if item.began is not None:
            self._begin(run, item.began.node)
        for offset, data in output:
            received = await run.store(self._logs, offset, data)
            self._out.received(run.request.run, received)
        run.busy = False
        self._tell(run, item)
        self._hear(run)

    def _tell(self, run: Run, item: News) -> None:
        finished = item.finished
        began = item.began or (finished.began if finished is not None and finished.refused is None else None)
        if began is not None:
            self._begin(run, began.node)
        if item.answers:
            run.answers.set()
        if finished is not None:
            self._finish(run, result_of(finished, killed=run.killed))

    def _begin(self, run: Run, node: str) -> None:
        if not run.placed:
            run.placed, run.archive = True, None
            if run.on_placed is not None:
                run.on_placed(node)

    def _finish(self, run: Run, result: RunResult) -> None:
        if self._runs.pop(run.request.run, None) is None:
            return
        if not run.over.done():
            run.over.set_result(result)
        if self._closing:
            self._out.done(run.request.run)
            if not self._runs:
                self._idle.set()
        else:
            self._ended(run.request.worker)

    def port_problem(self, port: int) -> str | None:
        """See ``Engine``; the node looks again."""
        del port  # another service's is noticed by `Services`, and more is only known on a node
        return None

    async def answers(self, process: Process, port: int) -> None:
        """Returns when the service's port answers on its node."""
        del port  # the node knows it
        found = self._runs.get(process.run)
        await (found.answers if found is not None else asyncio.Event()).wait()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
