"""The front's half of the Ray engine: the master's calls become messages to the dispatcher, and its messages results."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from titan_sdk.cluster.artifacts import Area
from titan_sdk.cluster.engines.archives import ArchiveRefused, split_pointer
from titan_sdk.cluster.engines.base import Outcome, Placed, Process, RunRequest, RunResult, StagingFailed
from titan_sdk.cluster.engines.exit_codes import result_of
from titan_sdk.cluster.engines.ray.attach import NotAttached, attach
from titan_sdk.cluster.engines.ray.front_run import FrontRun
from titan_sdk.cluster.engines.ray.resources import resources_of
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.engines.ray.stream import Stream, unpack
from titan_sdk.cluster.engines.ray.values import (
    KEPT_ARCHIVES,
    NOT_KNOWN,
    Front,
    NodeResult,
    NodeState,
    Order,
    Setup,
)
from titan_sdk.cluster.engines.staging import ARCHIVES, SERVICES
from titan_sdk.cluster.logs import LogStore
from titan_sdk.cluster.server.server import TakeOver
from titan_sdk.cluster.store.changes import StoreFailed
from titan_sdk.errors import PeerProtocolError, TitanError
from titan_sdk.wire.jobs import dump_line

__all__ = ["RayEngine"]

log = logging.getLogger(__name__)

NEVER_BEGAN = "the master ended before the job began"
EPOCH_LOST = "the Ray cluster lost track of it: its dispatcher, or the whole cluster, was restarted"
KILLED_EARLY = "it was killed before it began"
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0


class NodesChanged(Protocol):
    def __call__(self, nodes: tuple[NodeState, ...], *, reachable: bool) -> None: ...


class RayEngine:
    """Belongs to the loop's thread.

    Args:
        cluster: the name of the dispatcher, the same for every master of a store.
        front: this master's address and credentials for nodes.
        nodes_changed: called with the live nodes, and with no nodes while the cluster is not ``reachable``.
    """

    chooses_places = True

    def __init__(
        self,
        settings: RaySettings,
        cluster: str,
        logs: LogStore,
        uploads: Area,
        front: Front,
        nodes_changed: NodesChanged,
    ) -> None:
        self._settings, self._cluster = settings, cluster
        self._logs, self._uploads = logs, uploads
        self._nodes_changed = nodes_changed
        self._front = replace(front, key=secrets.token_hex(16))
        self.keeps_runs = settings.keep_jobs
        self._staged: dict[str, FrontRun] = {}
        """The runs that have not begun."""
        self._runs: dict[str, FrontRun] = {}
        """The runs that have begun, until their ends are durable."""
        self._strays: dict[str, asyncio.Event] = {}
        """Runs that only the dispatcher knows, each with an event for its end."""
        self._stream: Stream | None = None
        self._epoch = ""
        """The epoch of the last attached dispatcher."""
        self._sent: dict[str, None] = {}
        """The hashes of the archives that this dispatcher has."""
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.nodes: tuple[NodeState, ...] = ()
        self.problem: str | None = (
            f"the Ray cluster at {settings.address} has not answered yet; give --ray-address where its head answers "
            "(HOST:6379 on one of its nodes, ray://HOST:10001 from elsewhere)"
        )
        """The reason why no run can be started at the moment."""

    # ------------------------------------------------------------------ life

    async def open(self) -> None:
        """Attach to the cluster. Runs that were re-attached before get their state.

        Raises:
            TitanError: the cluster did not answer in time, or cannot be used with this front's settings.
        """
        self._keeping = asyncio.create_task(self._stay_attached())
        try:
            async with asyncio.timeout(self._settings.connect_seconds):
                await self._opened
        except TimeoutError:
            raise TitanError(self.problem or "the Ray cluster did not answer") from None

    async def _stay_attached(self) -> None:
        pause = _FIRST_PAUSE
        ship = str(Path(__file__).parents[3]) if self._settings.ship_code else None
        while True:
            self._lost.clear()
            try:
                await attach(Setup(self._settings.address, self._cluster, self._front, ship))
            except NotAttached as exc:
                self._let_go(str(exc))
                log.warning("%s", exc)
                if exc.is_final and not self._opened.done():
                    self._opened.set_exception(TitanError(str(exc)))
            else:
                pause = _FIRST_PAUSE
                await self._lost.wait()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def abandon(self) -> None:
        """Disconnect. The dispatcher and its runs stay for the next master."""
        self._closing = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        if self._stream is not None:
            with suppress(OSError):
                await self._stream.drain()
            self._stream.close()
            self._stream = None

    async def close(self) -> None:
        """Leave the runs to the next master, or end them, by the settings."""
        self._closing = True
        runs = list(self._runs.values())
        if not self._settings.keep_jobs and self._stream is not None:
            for run in runs:
                self.kill(run.process)
            over: list[asyncio.Future[Any]] = [asyncio.gather(*(run.over for run in runs))]
            over.append(asyncio.create_task(self._lost.wait()))
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
            over[1].cancel()
            self._say("end")
        await self.abandon()
        for run in runs:
            run.finish(RunResult(Outcome.INTERRUPTED, None, "the Ray cluster cannot be reached"))

    # ------------------------------------------------------------------ the master's

    async def stage(self, request: RunRequest) -> Process:
        """Prepare the run. Nothing is sent before ``run``."""
        epoch, archive, content = self._epoch, None, b""
        if self._stream is None:
            raise StagingFailed(self.problem or "Ray cannot be reached", Outcome.INTERRUPTED)
        if request.line.header in ARCHIVES:
            pointer = request.line.filename.strip()
            try:
                name, _ = split_pointer(pointer)
                content = await asyncio.to_thread(self._read_upload, name)
            except (ArchiveRefused, OSError) as exc:
                raise StagingFailed(f"the archive {pointer!r} was refused: {exc}") from exc
            archive = name, hashlib.sha256(content).hexdigest()
        run = FrontRun(Process(request, epoch), asyncio.get_running_loop().create_future(), archive=content)
        run.order = Order(request.run, request.job_id, dump_line(request.line), archive)
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

    async def run(self, process: Process, placed: Placed) -> RunResult:
        """Start the run, after all processes of an earlier run that the store has lost have ended."""
        run = self._runs[process.run] = self._staged.pop(process.run)
        run.on_placed = placed
        return await self._to_end(run, self._start_when_clear(run))

    async def _start_when_clear(self, run: FrontRun) -> None:
        for name, gone in list(self._strays.items()):
            if name.partition(".")[0] == run.process.run.partition(".")[0]:
                await gone.wait()
        run.cleared = True
        if self._stream is not None:
            self._account_for([run], frozenset())

    async def reattach(self, process: Process, placed: Placed) -> RunResult:
        """Follow the run, if the dispatcher has it."""
        run = FrontRun(process, asyncio.get_running_loop().create_future(), on_placed=placed, cleared=True)
        self._runs[process.run] = run
        return await self._to_end(run)

    async def _to_end(self, run: FrontRun, begin: Coroutine[None, None, None] | None = None) -> RunResult:
        try:
            if begin is not None:
                await begin
            return await run.over
        except asyncio.CancelledError:
            self._runs.pop(run.process.run, None)
            raise

    def kill(self, process: Process) -> None:
        """End it."""
        process.killed = True
        run = self._runs.get(process.run)
        if run is not None and run.cleared:
            self._say("kill", run=process.run)
        elif run is not None:
            run.finish(RunResult(Outcome.FAILURE, None, KILLED_EARLY))

    def forget(self, process: Process) -> None:
        """Tell the dispatcher to forget the run."""
        self._staged.pop(process.run, None)
        self._runs.pop(process.run, None)
        self._say("done", run=process.run)

    def port_problem(self, port: int) -> str | None:
        """Nothing is known here; the node checks the port."""
        del port  # `Services` checks the ports of other services; the node checks the rest
        return None

    async def answers(self, process: Process, port: int) -> None:
        """Wait until the service's port answers on its node."""
        del port  # the node knows it
        found = self._runs.get(process.run)
        await (found.answers if found is not None else asyncio.Event()).wait()

    # ------------------------------------------------------------------ the cluster's requests

    def answer(self, payload: bytes) -> TakeOver | Coroutine[None, None, str] | str:
        """Answer a request of a Ray process: the dispatcher opens its stream, a node delivers output.

        Raises:
            PeerProtocolError: it is neither.
        """
        try:
            head, data = unpack(payload)
            if head.pop("word") == "output":
                return self._take_output(data=data, **head)
            if not hmac.compare_digest(str(head["key"]).encode(), self._front.key.encode()):
                return "ERROR: this front has another key"
        except (ValueError, KeyError, TypeError) as exc:
            raise PeerProtocolError(f"no word of a Ray cluster's: {exc}") from exc
        return TakeOver(lambda reader, writer: self._serve(Stream(reader, writer)))

    async def _take_output(self, data: bytes, run: str, offset: int) -> str:
        found = self._runs.get(run)
        if found is None:
            return NOT_KNOWN
        received = await found.store(self._logs, offset, data)
        return f'{{"received": {received}}}'

    async def _serve(self, stream: Stream) -> None:
        """Serve the dispatcher's stream until it ends."""
        stream.send("welcome")
        sentence = ""
        try:
            while True:
                word, head = await stream.receive()
                if word == "attached":
                    self._stream = stream
                elif word == "superseded":
                    # Attaching again would take the cluster back from the other front, and so on for ever.
                    sentence = (
                        "another front has taken over this Ray cluster; this one starts nothing any more"
                    )
                    log.error("%s", sentence)
                    if self._keeping is not None:
                        self._keeping.cancel()
                    return
                if stream is self._stream:
                    getattr(self, f"_on_{word}")(**head)
        except (OSError, ValueError, PeerProtocolError) as exc:
            sentence = f"the dispatcher in the Ray cluster is gone ({exc})"
        finally:
            if self._stream is stream:
                self._let_go(sentence)

    def _let_go(self, sentence: str) -> None:
        self._stream, self.problem = None, sentence
        self._set_nodes(())
        self._lost.set()

    def _account_for(self, runs: list[FrontRun], known: frozenset[str]) -> None:
        """Start runs that the dispatcher does not know, and determine the fate of an earlier dispatcher's runs."""
        adopted = []
        for run in runs:
            name = run.process.run
            if run.over.done() or not run.cleared:
                continue
            if name in known:
                if run.process.killed:
                    self._say("kill", run=name)
            elif run.process.handle != self._epoch:
                if run.request.line.header in SERVICES:
                    adopted.append(name)
                else:
                    run.finish(RunResult(Outcome.INTERRUPTED, None, EPOCH_LOST))
            elif run.order is None:
                run.finish(RunResult(Outcome.INTERRUPTED, None, NEVER_BEGAN))
            elif run.process.killed:
                run.finish(RunResult(Outcome.FAILURE, None, KILLED_EARLY))
            else:
                self._start(run, run.order)
        if adopted:
            self._say("adopt", runs=adopted)

    def _start(self, run: FrontRun, order: Order) -> None:
        digest = "" if order.archive is None else order.archive[1]
        if digest and digest not in self._sent:
            self._say("archive", run.archive, digest=digest)
            self._sent[digest] = None
            if len(self._sent) > KEPT_ARCHIVES // 2:
                del self._sent[next(iter(self._sent))]
        request = run.request
        self._say(
            "start",
            order.encode(),
            run=order.run,
            resources=resources_of(request.line.requirement, self._settings.tag_resources),
            near=next((node.node_id for node in self.nodes if node.name == request.near), None),
            service=request.line.header in SERVICES,
            archive=digest,
        )

    def _say(self, word: str, data: bytes = b"", **head: Any) -> None:
        """Send a message. It is lost without a dispatcher; a new one gets the whole state."""
        if self._stream is not None:
            self._stream.send(word, data, **head)

    # ------------------------------------------------------------------ the dispatcher's words

    def _on_attached(self, epoch: str, runs: list[str], nodes: list[Any]) -> None:
        self._sent.clear()
        self._epoch, self.problem = epoch, None
        known = frozenset(runs)
        for name in known - set(self._runs) - set(self._strays):
            self._strays[name] = asyncio.Event()
        for name in list(self._strays):
            if name in known:
                self._say("kill", run=name)
            else:
                self._strays.pop(name).set()
        self._account_for(list(self._runs.values()), known)
        self._set_nodes(nodes)
        if not self._opened.done():
            self._opened.set_result(None)

    def _on_nodes(self, nodes: list[Any]) -> None:
        self._set_nodes(nodes)

    def _set_nodes(self, nodes: list[Any] | tuple[()]) -> None:
        self.nodes = tuple(NodeState(*node) for node in nodes)
        if not self._closing:
            self._nodes_changed(self.nodes, reachable=self._stream is not None)

    def _on_begun(self, run: str, node: str, answers: bool) -> None:
        found = self._runs.get(run)
        if found is not None:
            found.begin(node)
            if answers:
                found.answers.set()

    def _on_ended(self, data: bytes, run: str) -> None:
        found = self._runs.get(run)
        if found is None:
            if (stray := self._strays.pop(run, None)) is not None:
                stray.set()
            self._say("done", run=run)
        elif not found.ending:
            found.ending = True
            task = asyncio.create_task(self._end(found, *NodeResult.decode(data)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _end(self, run: FrontRun, ended: NodeResult, tail: bytes) -> None:
        if ended.node is not None and ended.refused is None:
            run.begin(ended.node)
        offset = ended.offset
        while tail:
            try:
                await run.store(self._logs, offset, tail)
                break
            except (OSError, StoreFailed) as exc:
                log.warning("the output of %s cannot be stored yet: %s", run.request.job_id, exc)
                await asyncio.sleep(1.0)
        run.finish(self._result(run, ended))

    def _result(self, run: FrontRun, ended: NodeResult) -> RunResult:
        if ended.refused is not None:
            return RunResult(Outcome.FATAL, None, ended.refused)
        if ended.lost is not None and not run.process.killed:
            return RunResult(Outcome.FAILURE, None, ended.lost)
        how = result_of(ended.code, killed=run.process.killed or ended.killed)
        return replace(how, record=ended.record)

    def _on_lost(self, run: str) -> None:
        if run in self._runs:
            self._runs[run].finish(RunResult(Outcome.INTERRUPTED, None, EPOCH_LOST))

    def _on_adopted(self, run: str) -> None:
        if run in self._runs and self._runs[run].process.killed:
            self._say("kill", run=run)
