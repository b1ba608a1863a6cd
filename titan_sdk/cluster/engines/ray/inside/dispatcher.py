"""The actor that owns the tasks of a cluster's jobs, so that they outlive the front; fronts come and go.

It decides nothing: what runs when is the front's business, and where, Ray's. It keeps what a front has not
acknowledged yet: results, and output up to a bound, beyond which nodes keep theirs on disk.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import secrets
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

import ray

from titan_sdk.cluster.engines.ray.inside.cluster_view import read_nodes
from titan_sdk.cluster.engines.ray.inside.growth import GrowthWatch
from titan_sdk.cluster.engines.ray.inside.losses import describe_loss, first_line
from titan_sdk.cluster.engines.ray.inside.node.run import run_job
from titan_sdk.cluster.engines.ray.inside.node.service import ServiceActor, service_name
from titan_sdk.cluster.engines.ray.inside.node.worker_side import NAMESPACE
from titan_sdk.cluster.engines.ray.inside.runs import Replies, Run
from titan_sdk.cluster.engines.ray.inside.task_options import task_options
from titan_sdk.cluster.engines.ray.values import (
    KEPT_ARCHIVES,
    PROTOCOL,
    Began,
    ClusterState,
    Config,
    Finished,
    News,
    Orders,
    Resources,
    Spec,
    Superseded,
    WrongProtocol,
    pack,
    unpack,
)

__all__ = ["Dispatcher"]

_MAX_BUFFERED = 32 * 1024 * 1024
_MAX_REPLY = 4 * 1024 * 1024
_ORDERS_SECONDS = 60.0
_NODES_SECONDS = 1.0
_NEWS_SECONDS = 0.1
"""How long ends may wait to be told together: a call of Ray's costs as much as all else of a short job."""
_ACTOR_SECONDS = 5.0
_STOP_SECONDS = 20.0
"""For the actor of a service that has begun: its grace, and what else it takes."""
_ACTOR_STEP = 0.1


Attached = tuple[str, list[str], ClusterState]


class Dispatcher:
    """One per cluster; every method is a call of the front or of a node."""

    def __init__(self, cluster: str, name: str) -> None:
        self._cluster, self._name = cluster, name
        self.epoch = secrets.token_hex(8)
        self._front = ""
        self._config: Config | None = None
        self._surroundings = b""
        """What every run is told besides its own, packed."""
        self._runs: dict[str, Run] = {}
        self._seen: set[str] = set()
        """Every run ever started here, by name: none is started twice."""
        self._archives: collections.OrderedDict[str, Any] = collections.OrderedDict()
        self._task = ray.remote(max_retries=0, max_calls=0)(run_job)
        self._options: dict[tuple[Resources, str | None], Any] = {}
        self._news: dict[str, None] = {}
        self._ready = asyncio.Event()
        self._next_news = 0.0
        self._ends, self._together = 0, 0
        """Ends since the last answer to the front, and how many of them it may be told together."""
        self._enough = asyncio.Event()
        self._gathering = False
        self._replies = Replies(self._is_enough, self._on_reply)
        self._silent = 0
        """Runs of which nothing was heard yet: they wait in Ray, or are too short to say more than their end."""
        self._room = asyncio.Condition()
        self._buffered = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._growth = GrowthWatch()
        self._state = ClusterState()
        self._told_state: ClusterState | None = None
        self._spawn(self._watch_nodes())

    # ------------------------------------------------------------------ the front's

    async def attach(self, front: str, protocol: int, config: Config) -> Attached:
        """A front takes over: this dispatcher's epoch, the runs it knows, the cluster. Everything unacknowledged is told anew.

        Raises:
            WrongProtocol: the front is of a version that this dispatcher does not understand.
        """
        if protocol != PROTOCOL:
            raise WrongProtocol(
                f"it speaks version {PROTOCOL} of this project's protocol, and the front {protocol}"
            )
        self._front, self._config = front, config
        self._surroundings = pack((config, self._cluster, self._name))
        self._told_state = None
        self._state = await asyncio.to_thread(self._read)
        for name, run in self._runs.items():
            run.sent, run.delivered = 0, (False, False, False)
            self._tell(name)
        self._ready.set()
        return self.epoch, list(self._runs), self._state

    async def obey(self, front: str, packed: bytes) -> None:
        """Do what ``Orders`` say."""
        self._check(front)
        orders: Orders = unpack(packed)
        self._together = orders.ends
        self._start_all(orders.starts, orders.archives)
        self._kill_all(orders.kills)
        if orders.received or orders.done:
            await self._acknowledge(orders.received, orders.done)

    def _start_all(self, specs: Iterable[Spec], archives: Mapping[str, bytes]) -> None:
        """Those that were never started."""
        for digest, content in archives.items():
            self._archives.pop(digest, None)
            self._archives[digest] = ray.put(content)
        for spec in specs:
            if spec.run not in self._seen:
                run = self._add(spec.run)
                try:
                    self._start(spec, run)
                except Exception as exc:  # noqa: BLE001 - whatever Ray says: of the others nothing may be lost
                    self._finish(spec.run, run, Finished(refused=f"Ray does not take it: {first_line(exc)}"))
        while len(self._archives) > KEPT_ARCHIVES:
            self._archives.popitem(last=False)

    def _kill_all(self, runs: Iterable[str]) -> None:
        """Begun or not; each is reported as any other end."""
        for name in runs:
            run = self._runs.get(name)
            if run is None or run.finished is not None:
                continue
            run.killed = True
            run.wanted.set()
            if run.actor is not None:
                self._spawn(self._end_actor(run))
            elif run.began is None:
                ray.cancel(run.ref, force=False, recursive=False)

    async def adopt(self, front: str, runs: list[str]) -> list[str]:
        """Find services that an earlier dispatcher started; which of them live."""
        self._check(front)
        found: list[str] = []
        for name in runs:
            try:
                actor = ray.get_actor(service_name(name), namespace=NAMESPACE)
            except ValueError:
                continue
            run = self._add(name)
            run.actor, run.ref = actor, actor.outcome.remote()
            self._replies.expect(name, run)
            found.append(name)
        return found

    async def _acknowledge(self, received: Mapping[str, int], done: Iterable[str]) -> None:
        for name, offset in received.items():
            run = self._runs.get(name)
            while run is not None and run.chunks and _end(run.chunks[0]) <= offset:
                self._buffered -= len(run.chunks.popleft()[1])
                run.sent -= 1
        for name in done:
            over = self._runs.pop(name, None)
            if over is not None:
                self._buffered -= sum(len(data) for _, data in over.chunks)
                over.chunks.clear()
        async with self._room:
            self._room.notify_all()

    async def poll(self, front: str, seconds: float, packed: bytes | None = None) -> bytes:
        """What happened since the last call, as soon as anything has; the cluster if it has changed. Empty if nothing.

        Args:
            packed: ``Orders`` that are done before: one call of Ray's for both, as it costs more than a job does here.
        """
        if packed is None:
            self._check(front)
        else:
            await self.obey(front, packed)
        if not self._news and self._told_state == self._state:
            self._ready.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._ready.wait()
        await self._gather_ends()
        self._check(front)
        state = None if self._told_state == self._state else self._state
        self._told_state = self._state
        news = self._collect()
        return pack((news, state)) if news or state is not None else b""

    async def _gather_ends(self) -> None:
        """Wait a moment for more ends, while there is enough left to run."""
        seconds = self._next_news - time.monotonic()
        if seconds > 0:
            self._gathering = True
            self._replies.bring()
            if not self._is_enough(0):
                self._enough.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._enough.wait()
            self._gathering = False
        self._replies.bring()
        self._ends, self._next_news = 0, time.monotonic() + _NEWS_SECONDS

    def _is_enough(self, more: int) -> bool:
        """Whether the front is to hear of ends now, with so many more of them."""
        left = self._silent - more
        return not self._gathering or self._ends + more >= self._together or left < self._together

    def _collect(self) -> list[News]:
        found: list[News] = []
        size = 0
        for name in list(self._news):
            if size >= _MAX_REPLY:
                break
            del self._news[name]
            run = self._runs.get(name)
            if run is None:
                continue
            chunks = tuple(run.chunks)[run.sent :]
            size += sum(len(data) for _, data in chunks) + 200
            began, answers, ended = run.delivered
            news = News(
                name,
                run.began if not began else None,
                run.answers and not answers,
                chunks,
                run.finished if not ended else None,
            )
            run.sent = len(run.chunks)
            run.delivered = (run.began is not None, run.answers, run.finished is not None)
            found.append(news)
        return found

    def _check(self, front: str) -> None:
        if front != self._front:
            raise Superseded("another front has taken over this cluster")

    # ------------------------------------------------------------------ the nodes'

    async def config(self) -> Config | None:
        """Where the front is."""
        return self._config

    async def push(self, name: str, began: Began, offset: int, data: bytes) -> None:
        """A run lives, and has printed this. Answered when there is room for more."""
        run = self._runs.get(name)
        if run is None or run.finished is not None:
            return
        self._heard_of(run)
        run.began = began
        if data:
            run.chunks.append((offset, data))
            self._buffered += len(data)
        self._tell(name)
        if self._buffered > _MAX_BUFFERED:
            async with self._room:
                await self._room.wait_for(lambda: self._buffered <= _MAX_BUFFERED)

    async def answers(self, name: str, began: Began) -> None:
        """The port of a service accepts connections."""
        run = self._runs.get(name)
        if run is not None:
            self._heard_of(run)
            run.began, run.answers = began, True
            self._tell(name)

    async def orders(self, name: str) -> bool:
        """Whether the run is to be ended; answered as soon as it is, or after a while."""
        run = self._runs.get(name)
        if run is None:
            return False
        try:
            async with asyncio.timeout(_ORDERS_SECONDS):
                await run.wanted.wait()
        except TimeoutError:
            return False
        return True

    # ------------------------------------------------------------------ parts

    def _add(self, name: str) -> Run:
        self._seen.add(name)
        self._silent += 1
        run = self._runs[name] = Run()
        return run

    def _heard_of(self, run: Run) -> None:
        self._silent -= run.began is None and run.finished is None

    def _start(self, spec: Spec, run: Run) -> None:
        order = pack((spec, self._surroundings))
        arguments = (order,) if spec.archive is None else (order, [self._archives[spec.archive[1]]])
        if spec.service:
            options = task_options(spec.resources, spec.near)
            actor = ray.remote(ServiceActor).options(
                name=service_name(spec.run),
                namespace=NAMESPACE,
                lifetime="detached",
                max_concurrency=4,
                **options,
            )
            run.actor = actor.remote()
            run.actor.run.remote(*arguments)
            run.ref = run.actor.outcome.remote()
        else:
            run.ref = self._prepared(spec.resources, spec.near).remote(*arguments)
        self._replies.expect(spec.run, run)

    async def _end_actor(self, run: Run) -> None:
        """It ends its process itself and says when nothing is left, unless it was never placed."""
        seconds = _ACTOR_SECONDS if run.began is None else _STOP_SECONDS
        for _ in range(int(seconds / _ACTOR_STEP)):
            if run.finished is not None:
                return
            await asyncio.sleep(_ACTOR_STEP)
        ray.kill(run.actor)

    def _prepared(self, resources: Resources, near: str | None) -> Any:
        key = resources, near
        if key not in self._options:
            if len(self._options) > 1000:
                self._options.clear()
            self._options[key] = self._task.options(**task_options(resources, near))
        return self._options[key]

    def _on_reply(self, name: str, run: Run, reply: Future[Any]) -> None:
        try:
            finished = unpack(reply.result())
        except ray.exceptions.TaskCancelledError:
            finished = Finished(began=run.began, killed=True)
        except Exception as exc:  # noqa: BLE001 - whatever Ray says: the run is over
            self._spawn(self._on_loss(name, run, exc))
            return
        self._finish(name, run, finished)

    async def _on_loss(self, name: str, run: Run, exc: Exception) -> None:
        reason = await describe_loss(exc, run.began)
        self._finish(name, run, Finished(began=run.began, killed=run.killed, lost=reason))

    def _finish(self, name: str, run: Run, finished: Finished) -> None:
        self._heard_of(run)
        run.finished = finished
        if run.actor is not None:
            ray.kill(run.actor)
        self._tell(name)
        self._ends += 1
        if self._is_enough(0):
            self._enough.set()

    def _tell(self, name: str) -> None:
        self._news[name] = None
        self._ready.set()

    async def _watch_nodes(self) -> None:
        while True:
            self._state = await asyncio.to_thread(self._read)
            if self._state != self._told_state:
                self._ready.set()
            await asyncio.sleep(_NODES_SECONDS)

    def _read(self) -> ClusterState:
        return ClusterState(read_nodes(), self._growth.read())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _end(chunk: tuple[int, bytes]) -> int:
    return chunk[0] + len(chunk[1])
