"""The Ray driver that lives as long as the dispatcher. The dispatcher's tasks belong to its Ray job.

Ray ends idle worker processes of a Ray job that is over, such as that of a front's short-lived driver. Without this driver,
every Titan job after a pause would wait for the start of a worker process.
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
"""The head node. If it is lost, the cluster is lost too; the loss of another node does not affect this driver."""
_MADE = b"made\n"


def start_dispatcher_driver(cluster: str, name: str) -> None:
    """The body of a Ray task on the head: start the driver, and wait until it has created the dispatcher.

    Raises:
        RuntimeError: the driver failed; the text is its last output.
    """
    context = ray.get_runtime_context()
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if context.gcs_address.startswith("127."):
        environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # see ``attach_driver.py``
    modules = context.runtime_env.get("py_modules", [])
    words = [sys.executable, "-m", __name__, context.gcs_address, cluster, name, *modules]
    # Ray's workers on this machine search modules in the driver's folder, so start it in one without modules.
    found = subprocess.run(words, capture_output=True, check=False, env=environ, cwd="/")
    if not found.stdout.endswith(_MADE):
        raise RuntimeError(found.stderr.decode("utf-8", "replace")[-2000:] or "it has ended without a word")


def main(address: str, cluster: str, name: str, *modules: str) -> None:
    """Continue in a detached process, because Ray ends the children of its workers. This process waits for its report."""
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
