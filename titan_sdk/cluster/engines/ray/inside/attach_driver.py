"""The short-lived Ray driver that finds or creates the dispatcher. The front runs it as a module.

It reads the setup from stdin. On stdout it writes ``null`` after the dispatcher has connected to the front, or the failure.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from titan_sdk.cluster.engines.ray.inside.missing_package import WITHOUT_PACKAGE, lacks_package
from titan_sdk.cluster.engines.ray.values import (
    NAMESPACE,
    PROTOCOL,
    FrontUnreachable,
    Setup,
    WrongProtocol,
)

__all__ = ["main"]

_CALL_SECONDS = 60.0
_LOOPBACK = ("127.", "localhost:", "[::1]:")


def _attach(setup: Setup) -> None:
    _connect(setup)
    import ray

    from titan_sdk.cluster.engines.ray.inside.dispatcher_driver import HEAD, start_dispatcher_driver

    name = f"dispatcher-{setup.cluster}"
    try:
        dispatcher = ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        home = ray.remote(num_cpus=0, max_retries=0, resources=HEAD)(start_dispatcher_driver)
        ray.get(home.remote(setup.cluster, name), timeout=_CALL_SECONDS)
        dispatcher = ray.get_actor(name, namespace=NAMESPACE)
    try:
        ray.get(
            dispatcher.attach.remote(setup.front.key, PROTOCOL, setup.front.encode()), timeout=_CALL_SECONDS
        )
    except ray.exceptions.RayTaskError as exc:
        raise exc.as_instanceof_cause() from None


def _connect(setup: Setup) -> None:
    address = setup.address
    if address.startswith(_LOOPBACK) or (address == "auto" and _current_cluster().startswith(_LOOPBACK)):
        # Ray replaces a loopback address by this machine's outer address, at which a cluster on loopback does not answer.
        # This is Ray's own switch against that. It overrides the shell's value, because the address was given explicitly,
        # and a head that listens on every address also answers on loopback.
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


def _failure(address: str, exc: Exception) -> dict[str, Any]:
    is_final = isinstance(exc, WrongProtocol | FrontUnreachable)
    if isinstance(exc, WrongProtocol):
        sentence = f"the dispatcher in the Ray cluster cannot be used: {exc}; see docs/scale-out.md"
    elif isinstance(exc, FrontUnreachable):
        sentence = str(exc)
    elif lacks_package(exc):
        sentence = f"the Ray cluster at {address} cannot be used: its head {WITHOUT_PACKAGE}"
    elif isinstance(exc, ImportError):
        sentence = f"Ray cannot be used here ({exc}); `pip install 'ray[default]'` brings it"
    else:
        text = " ".join(str(exc).split())[:500] or type(exc).__name__
        if "ersion" in text and "mismatch" in text.lower():
            sentence = (
                f"the Ray cluster at {address} has another version of Ray or Python than this front: {text}"
            )
        else:
            sentence = (
                f"the Ray cluster at {address} cannot be used: {text}; give --ray-address where its head answers "
                "(HOST:6379 on one of its nodes, ray://HOST:10001 from elsewhere)"
            )
    return {"sentence": sentence, "is_final": is_final}


def main() -> None:
    """Attach, write the outcome, and exit."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # other writes to stdout must not mix with the outcome
    setup = Setup.decode(sys.stdin.buffer.read())
    failure = None
    try:
        _attach(setup)
    except Exception as exc:  # noqa: BLE001 - the front says it to people, and tries again
        failure = _failure(setup.address, exc)
    out.write(json.dumps(failure))
    out.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
