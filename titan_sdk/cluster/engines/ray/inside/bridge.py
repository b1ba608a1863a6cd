"""The front's child process that is a driver of the Ray cluster. Run as a module by `bridge_link.py`.

Commands of the front come on stdin, what the dispatcher tells goes to stdout. It may die at any time: the front
starts another one, which attaches to the same dispatcher.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from titan_sdk.cluster.engines.ray import pipes
from titan_sdk.cluster.engines.ray.inside.lacking import WITHOUT_PACKAGE, lacks_package
from titan_sdk.cluster.engines.ray.values import PROTOCOL, Setup, Superseded, WrongProtocol

__all__ = ["main"]

_POLL_SECONDS = 10.0
_CALL_SECONDS = 60.0
_PAUSE = 0.5
_ANSWER_SECONDS = 0.03
"""How long news waits for what the front orders because of it, for both to travel in one call."""
_LOOPBACK = ("127.", "localhost:", "[::1]:")


class Bridge:
    """The connection to the dispatcher, made anew whenever the dispatcher is lost."""

    def __init__(self, setup: Setup, out: IO[bytes]) -> None:
        self._setup = setup
        self._out = out
        self._lock = threading.Lock()
        self._dispatcher: Any = None
        self._calls = threading.Lock()
        self._asked = False
        """Whether the next orders are to travel with the next question for news."""
        self._polled: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def say(self, *words: object) -> None:
        """Tell the front."""
        data = pipes.dump(words)
        with self._lock:
            self._out.write(data)
            self._out.flush()

    def attach(self) -> None:
        """Find the cluster's dispatcher, or make it."""
        import ray

        from titan_sdk.cluster.engines.ray.inside.dispatcher import Dispatcher
        from titan_sdk.cluster.engines.ray.inside.node.worker_side import NAMESPACE

        setup = self._setup
        name = f"dispatcher-{setup.cluster}"
        actor = ray.remote(Dispatcher).options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            # On the head node: if that is lost, so is the cluster, and no other node's end can take this with it.
            resources={"node:__internal_head__": 0.001},
            max_concurrency=10_000,
        )
        dispatcher = actor.remote(setup.cluster, name)
        attached = dispatcher.attach.remote(setup.front, PROTOCOL, setup.config)
        known = ray.get(attached, timeout=_CALL_SECONDS)
        self._dispatcher = dispatcher
        self.say("attached", *known)

    def follow(self) -> None:
        """Tell the front what happens, for ever."""
        import ray

        news = b""
        while True:
            try:
                polled, news = self._answered() if news else self._poll(), b""
                news = ray.get(polled, timeout=_CALL_SECONDS)
            except ray.exceptions.RayTaskError as exc:
                raise exc.as_instanceof_cause() from None
            except ray.exceptions.ActorUnavailableError:
                time.sleep(_PAUSE)
            except ray.exceptions.ActorDiedError:
                self.attach()
            else:
                if news:
                    self._asked = True
                    self.say("news", news)

    def _poll(self, orders: bytes | None = None) -> Any:
        return self._dispatcher.poll.remote(self._setup.front, _POLL_SECONDS, orders)

    def _answered(self) -> Any:
        """The question for the next news, with the orders that these led to if they come soon."""
        try:
            return self._polled.get(timeout=_ANSWER_SECONDS)
        except queue.Empty:
            with self._calls:
                # The orders may have come in this moment.
                polled = self._poll() if self._asked else self._polled.get()
                self._asked = False
                return polled

    def obey(self, command: str, *args: Any) -> None:
        """Pass a command on. A failure shows in ``follow``, and everything unanswered is sent again."""
        if command == "end":
            self._end()
        elif command == "adopt" and self._dispatcher is not None:
            self._adopt(*args)
        elif self._dispatcher is not None:
            self._order(*args)

    def _order(self, orders: bytes) -> None:
        with self._calls:
            if self._asked:
                self._asked = False
                self._polled.put(self._poll(orders))
            else:
                self._dispatcher.obey.remote(self._setup.front, orders)

    def _adopt(self, runs: list[str]) -> None:
        import ray

        try:
            found = ray.get(self._dispatcher.adopt.remote(self._setup.front, runs), timeout=_CALL_SECONDS)
        except ray.exceptions.RayError:
            return  # the next attachment asks again
        self.say("adopted", found, [run for run in runs if run not in found])

    def _end(self) -> None:
        """The cluster has no runs, and no front will come: remove the dispatcher."""
        import ray

        ray.kill(self._dispatcher)


def main() -> None:
    """Until the front, or Ray, is gone."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else writes to stdout must not get between the frames
    commands = sys.stdin.buffer
    bridge = Bridge(pipes.read(commands), out)
    threading.Thread(target=_connect_and_follow, args=(bridge,), daemon=True).start()
    try:
        while True:
            bridge.obey(*pipes.read(commands))
    except EOFError:
        os._exit(0)


def _connect_and_follow(bridge: Bridge) -> None:
    try:
        _connect(bridge._setup)
        bridge.attach()
        bridge.follow()
    except Superseded as exc:
        bridge.say("superseded", str(exc))
    except WrongProtocol as exc:
        bridge.say(
            "failed", f"the dispatcher in the Ray cluster cannot be used: {exc}; see docs/scale-out.md"
        )
    except Exception as exc:  # noqa: BLE001 - the front says it to people, and tries again
        bridge.say("failed", _sentence(bridge._setup.address, exc))
    finally:
        os._exit(1)


def _connect(setup: Setup) -> None:
    address = setup.address
    if address.startswith(_LOOPBACK) or (address == "auto" and _current_cluster().startswith(_LOOPBACK)):
        # Ray replaces a loopback address by this machine's outer one, where a cluster that is bound to loopback does
        # not answer. This is Ray's own switch against that. It overrides the shell's value: the address was given as
        # it is meant, and a head that listens on every address answers on loopback too.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    environment = None if setup.ship is None else {"py_modules": [setup.ship]}
    ray.init(
        address,
        namespace="titan",
        log_to_driver=False,
        logging_level="error",
        runtime_env=environment,
    )


def _current_cluster() -> str:
    given = os.environ.get("RAY_ADDRESS")
    if given:
        return given
    try:
        return (Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster").read_text("utf-8")
    except OSError:
        return ""


def _sentence(address: str, exc: Exception) -> str:
    if lacks_package(exc):
        return f"the Ray cluster at {address} cannot be used: its head {WITHOUT_PACKAGE}"
    if isinstance(exc, ImportError):
        return f"Ray cannot be used here ({exc}); `pip install 'ray[default]'` brings it"
    text = " ".join(str(exc).split())[:500] or type(exc).__name__
    if "ersion" in text and "mismatch" in text.lower():
        return f"the Ray cluster at {address} has another version of Ray or Python than this front: {text}"
    return (
        f"the Ray cluster at {address} cannot be used: {text}; give --ray-address where its head answers "
        "(HOST:6379 on one of its nodes, ray://HOST:10001 from elsewhere)"
    )


if __name__ == "__main__":
    main()
