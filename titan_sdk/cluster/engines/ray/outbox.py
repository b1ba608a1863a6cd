"""Commands of one turn of the loop go to the bridge together: a message per job would cost more than the job."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable

from titan_sdk.cluster.engines.ray.values import KEPT_ARCHIVES, Orders, Spec, pack

__all__ = ["Outbox"]


class Outbox:
    """One message for all that the front wants at a time; see ``Orders``.

    Args:
        send: drops what it is given while there is no bridge.
        ends: how many ends may wait to be told together, at the moment.
    """

    def __init__(
        self, send: Callable[..., None], loop: asyncio.AbstractEventLoop, ends: Callable[[], int]
    ) -> None:
        self._send = send
        self._ends = ends
        self._loop = loop
        self._sent: collections.OrderedDict[str, None] = collections.OrderedDict()
        """Archives that the dispatcher has, the one that came last at the end."""
        self._starts: list[Spec] = []
        self._contents: dict[str, bytes] = {}
        self._kills: list[str] = []
        self._received: dict[str, int] = {}
        self._done: list[str] = []
        self._armed = False

    def start(self, spec: Spec, content: bytes | None) -> None:
        """Start a run.

        Args:
            content: of the archive that it needs.
        """
        self._starts.append(spec)
        if spec.archive is not None and content is not None:
            self._contents[spec.archive[1]] = content
        self._arm()

    def kill(self, run: str) -> None:
        self._kills.append(run)
        self._arm()

    def received(self, run: str, offset: int) -> None:
        self._received[run] = offset
        self._arm()

    def done(self, run: str) -> None:
        self._received.pop(run, None)
        self._done.append(run)
        self._arm()

    def reset(self) -> None:
        """There is another bridge or dispatcher, which has to be told everything anew."""
        self._sent.clear()
        self._starts, self._kills, self._done = [], [], []
        self._contents, self._received = {}, {}

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what there is."""
        self._armed = False
        if not (self._starts or self._kills or self._received or self._done):
            return
        orders = Orders(
            tuple(self._starts),
            self._new_archives(),
            tuple(self._kills),
            self._received,
            tuple(self._done),
            self._ends(),
        )
        self._send("obey", pack(orders))
        self._starts, self._kills, self._done = [], [], []
        self._contents, self._received = {}, {}

    def _new_archives(self) -> dict[str, bytes]:
        new = {digest: content for digest, content in self._contents.items() if digest not in self._sent}
        self._sent.update(dict.fromkeys(new))
        while len(self._sent) > KEPT_ARCHIVES // 2:
            self._sent.popitem(last=False)
        return new
