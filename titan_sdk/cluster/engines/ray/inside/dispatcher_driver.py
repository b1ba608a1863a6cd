"""A driver of Ray beside the dispatcher, for as long as that lives: the Ray job that the dispatcher's tasks belong to.

Of a job that is over, as that of a front's short-lived driver, Ray ends each worker process that has nothing to do: every
job of ours after a pause would wait for the start of one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

import ray

from titan_sdk.cluster.engines.ray.inside.dispatcher import Dispatcher
from titan_sdk.cluster.engines.ray.values import NAMESPACE

__all__ = ["HEAD", "main", "start_dispatcher_driver"]

HEAD = {"node:__internal_head__": 0.001}
"""Where all of this is: if that node is lost, so is the cluster, and no other node's end can take this with it."""
_MADE = b"made\n"


def start_dispatcher_driver(cluster: str, name: str) -> None:
    """The body of a Ray task on the head: start that driver; returns when it has made the dispatcher.

    Raises:
        RuntimeError: it has not; its last words.
    """
    context = ray.get_runtime_context()
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if context.gcs_address.startswith("127."):
        environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # see ``attach_driver.py``
    modules = context.runtime_env.get("py_modules", [])
    words = [sys.executable, "-m", __name__, context.gcs_address, cluster, name, *modules]
    # Ray has nodes of this machine look for modules where a driver was started: in no folder that has any.
    found = subprocess.run(words, capture_output=True, check=False, env=environ, cwd="/")
    if not found.stdout.endswith(_MADE):
        raise RuntimeError(found.stderr.decode("utf-8", "replace")[-2000:] or "it has ended without a word")


def main(address: str, cluster: str, name: str, *modules: str) -> None:
    """Go on in a process of its own, as Ray ends the children of its worker processes; this one waits for its word."""
    here, there = os.pipe()
    if os.fork():
        os.close(there)
        with open(here, "rb") as told:
            os.write(1, told.read())
        return
    os.setsid()
    ray.init(
        address,
        namespace=NAMESPACE,
        log_to_driver=False,
        logging_level="error",
        runtime_env={"py_modules": list(modules)} if modules else None,
    )
    actor: Any = ray.remote(Dispatcher).options(
        name=name, lifetime="detached", get_if_exists=True, num_cpus=0, resources=HEAD
    )
    dispatcher = actor.remote(cluster, name)
    ray.get(dispatcher.front.remote())
    os.write(there, _MADE)
    for descriptor in (0, 1, 2, there):
        os.close(descriptor)
    with suppress(ray.exceptions.RayError):
        ray.get(dispatcher.life.remote())
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
