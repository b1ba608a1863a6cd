"""The dispatcher: the actor that owns the tasks of a cluster's jobs, so that they outlive the front.

It decides nothing: the front decides which job runs when, and Ray decides where. The dispatcher keeps the ends of runs that
no front has stored yet.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import secrets
from collections.abc import Coroutine
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from titan_sdk.cluster.engines.ray.inside.cluster_view import read_nodes
from titan_sdk.cluster.engines.ray.inside.dial_front import dial
from titan_sdk.cluster.engines.ray.inside.failure_reasons import crashed, failure_reason, first_line
from titan_sdk.cluster.engines.ray.inside.node.run import run_job
from titan_sdk.cluster.engines.ray.inside.node.service import ServiceActor, service_name
from titan_sdk.cluster.engines.ray.stream import Stream
from titan_sdk.cluster.engines.ray.values import (
    KEPT_ARCHIVES,
    NAMESPACE,
    PROTOCOL,
    Front,
    NodeResult,
    NodeState,
    WrongProtocol,
)
from titan_sdk.errors import PeerProtocolError

__all__ = ["Dispatcher"]

_NODES_SECONDS = 1.0
_CANCEL_SECONDS = 1.0
_ACTOR_SECONDS = 5.0
"""Seconds for a service's actor to answer, unless it has no place yet."""
_DEATH_SECONDS = 1.0
"""Seconds that Ray may need longer to notice the loss of a node than that of a process."""


class _DispatchedRun:
    __slots__ = ("actor", "answers", "ended", "killed", "node", "ref")

    def __init__(self) -> None:
        self.ref: Any = None
        self.actor: Any = None
        self.node: str | None = None
        """The node where it began."""
        self.answers = False
        """Whether the service's port has answered."""
        self.killed = False
        self.ended: bytes | None = None


class Dispatcher:
    """One per cluster. Ray calls its public methods; the front's messages call the ``_on_...`` methods."""

    def __init__(self, cluster: str, name: str) -> None:
        self._about = cluster, name
        self._here: str = ray.util.get_node_ip_address()
        self._epoch = secrets.token_hex(8)
        self._key, self._front = "", b""
        self._stream: Stream | None = None
        self._runs: dict[str, _DispatchedRun] = {}
        self._archives: collections.OrderedDict[str, Any] = collections.OrderedDict()
        self._task = ray.remote(max_retries=0, max_calls=0)(run_job)
        self._nodes: tuple[NodeState, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._watch_nodes())

    async def attach(self, key: str, protocol: int, front: bytes) -> None:
        """Serve this front instead of an earlier one. Returns when it is connected.

        Raises:
            WrongProtocol: its version is incompatible with this dispatcher.
            FrontUnreachable: this front cannot be reached, or not by every node.
        """
        if protocol != PROTOCOL:
            raise WrongProtocol(
                f"it speaks version {PROTOCOL} of this project's protocol, and the front {protocol}"
            )
        self._nodes = await asyncio.to_thread(read_nodes)
        stream = await dial(Front.decode(front), self._here, self._nodes)
        if self._stream is not None:
            if key != self._key:
                self._stream.send("superseded")
            self._stream.close()
        self._key, self._front, self._stream = key, front, stream
        self._say("attached", epoch=self._epoch, runs=list(self._runs), nodes=self._nodes)
        for name, run in self._runs.items():
            self._tell_begin(name, run)
            self._tell_end(name, run)
        self._spawn(self._listen(stream))

    async def front(self) -> bytes:
        """The front's address, for nodes that have lost it."""
        return self._front

    async def life(self) -> None:
        """Never returns. The caller thus learns of this actor's end."""
        await asyncio.get_running_loop().create_future()

    async def heard(self, name: str, node: str, answers: bool) -> None:
        """A run has begun on this node, or a service's port ``answers``."""
        run = self._runs.get(name)
        if run is not None:
            run.node, run.answers = node, run.answers or answers
            self._tell_begin(name, run)

    async def _listen(self, stream: Stream) -> None:
        try:
            while True:
                word, head = await stream.receive()
                if stream is not self._stream:
                    return
                getattr(self, f"_on_{word}")(**head)
        except (OSError, ValueError, PeerProtocolError):
            pass  # the front is gone; it or the next one will attach again
        finally:
            stream.close()
            if stream is self._stream:
                self._stream = None

    def _say(self, word: str, data: bytes = b"", **head: Any) -> None:
        if self._stream is not None:
            self._stream.send(word, data, **head)

    # ------------------------------------------------------------------ the front's words

    def _on_archive(self, digest: str, data: bytes = b"") -> None:
        self._archives.pop(digest, None)
        self._archives[digest] = ray.put(data)
        while len(self._archives) > KEPT_ARCHIVES:
            self._archives.popitem(last=False)

    def _on_start(
        self,
        data: bytes,
        run: str,
        resources: tuple[float, float, list[Any]],
        near: str | None,
        service: bool,
        archive: str,
    ) -> None:
        if run in self._runs:
            return
        started = self._runs[run] = _DispatchedRun()
        given = () if not archive else ([self._archives[archive]],)
        arguments = data, self._front, self._about, *given
        options = _options(*resources, near)
        try:
            if service:
                actor = ray.remote(ServiceActor).options(
                    name=service_name(run), namespace=NAMESPACE, lifetime="detached", **options
                )
                started.actor = actor.remote()
                started.actor.run.remote(*arguments)
                started.ref = started.actor.outcome.remote()
            else:
                started.ref = self._task.options(**options).remote(*arguments)
        except Exception as exc:  # noqa: BLE001 - any error of Ray: the other runs must not be lost
            refused = NodeResult(refused=f"Ray does not take it: {first_line(exc)}")
            self._end(run, started, refused.encode())
            return
        self._spawn(self._follow(run, started))

    def _on_kill(self, run: str) -> None:
        found = self._runs.get(run)
        if found is not None and found.ended is None and not found.killed:
            found.killed = True
            self._spawn(self._kill(found))

    def _on_done(self, run: str) -> None:
        self._runs.pop(run, None)

    def _on_adopt(self, runs: list[str]) -> None:
        """Take over services of an earlier dispatcher. Services that are not alive are lost."""
        for name in runs:
            try:
                actor = ray.get_actor(service_name(name), namespace=NAMESPACE)
            except ValueError:
                self._say("lost", run=name)
                continue
            run = self._runs[name] = _DispatchedRun()
            run.actor, run.ref = actor, actor.outcome.remote()
            self._spawn(self._follow(name, run))
            self._spawn(self._adopted(name, run))

    async def _adopted(self, name: str, run: _DispatchedRun) -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # its end is told, then
            await self.heard(name, *await run.actor.state.remote())
        self._say("adopted", run=name)

    def _on_end(self) -> None:
        """The front has ended the cluster's runs, and no front will follow: exit."""
        ray.kill(ray.get_actor(self._about[1], namespace=NAMESPACE))

    # ------------------------------------------------------------------ runs

    async def _follow(self, name: str, run: _DispatchedRun) -> None:
        try:
            ended = await run.ref
        except ray.exceptions.TaskCancelledError:
            ended = NodeResult(killed=True).encode()
        except Exception as exc:  # noqa: BLE001 - whatever Ray says: the run is over
            reason = failure_reason(exc, run.node)
            if run.node is not None and crashed(exc) and await self._dies(run.node):
                reason = f"node {run.node} died"
            ended = NodeResult(lost=reason).encode()
        self._end(name, run, ended)

    def _end(self, name: str, run: _DispatchedRun, ended: bytes) -> None:
        run.ended = ended
        if run.actor is not None:
            ray.kill(run.actor)
        self._tell_end(name, run)

    def _tell_begin(self, name: str, run: _DispatchedRun) -> None:
        if run.node is not None:
            self._say("begun", run=name, node=run.node, answers=run.answers)

    def _tell_end(self, name: str, run: _DispatchedRun) -> None:
        if run.ended is not None:
            self._say("ended", run.ended, run=name)

    async def _kill(self, run: _DispatchedRun) -> None:
        """Kill a run, begun or not. Its end is reported like any other."""
        if run.actor is not None:
            try:
                await asyncio.wait_for(run.actor.stop.remote(), _ACTOR_SECONDS)
            except (TimeoutError, ray.exceptions.RayError):
                ray.kill(run.actor)
            return
        while run.ended is None:
            # Repeated, because Ray misses a cancel while the task is on its way to a node.
            ray.cancel(run.ref, force=False, recursive=False)
            await asyncio.sleep(_CANCEL_SECONDS)

    # ------------------------------------------------------------------ nodes

    async def _watch_nodes(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(_NODES_SECONDS)

    async def _look(self) -> None:
        try:
            nodes = await asyncio.to_thread(read_nodes)
        except Exception:  # noqa: BLE001 - of Ray's own: it is away, and comes back, or ends this actor
            return
        if nodes != self._nodes:
            self._nodes = nodes
            self._say("nodes", nodes=nodes)

    async def _dies(self, name: str) -> bool:
        """Whether Ray reports the node dead within the time that it needs."""
        for _ in range(4):
            await self._look()
            if all(node.name != name for node in self._nodes):
                return True
            await asyncio.sleep(_DEATH_SECONDS / 4)
        return False

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _options(cpus: float, gpus: float, custom: list[tuple[str, float]], near: str | None) -> dict[str, Any]:
    """The Ray options of a run. ``near``: the id of the preferred node."""
    options: dict[str, Any] = {"num_cpus": cpus}
    if gpus:
        options["num_gpus"] = gpus
    if custom:
        options["resources"] = dict(custom)
    if near is not None:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(
            near, soft=True, _spill_on_unavailable=True
        )
    return options
