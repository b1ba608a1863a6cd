"""The head of a Ray cluster with a real autoscaler (v2) that starts its nodes on this machine, on loopback.

Not `ray.cluster_utils.AutoscalingCluster`, which stops every Ray of the machine first, and needs a file that Ray's
wheels lack.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.ray_nodes import need_ray
from tests.support.redis_server import free_port

__all__ = ["RayAutoscaling"]

_HEAD_ID = "f" * 51 + "00000"
_HEAD_TYPE = "ray.head.default"  # as that provider calls it
_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
_STORE_BYTES = 80_000_000


class RayAutoscaling:
    """Has no node but the head, which runs nothing.

    Args:
        types: resources of a node of each type.
    """

    def __init__(self, log: Path, **types: dict[str, float]) -> None:
        need_ray()
        # The paths of sockets below it must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        config = self._folder / "autoscaling.json"
        config.write_text(json.dumps(_config(self.address, types)))
        self._log = log.open("ab")
        words = [
            "start",
            "--head",
            "--block",
            "--num-cpus=0",
            "--node-ip-address=127.0.0.1",
            f"--port={port}",
        ]
        words += ["--include-dashboard=false"]
        words += [f"--object-store-memory={_STORE_BYTES}", f"--temp-dir={self._folder}/t"]
        words += [f"--autoscaling-config={config}", "--ray-client-server-port=" + str(free_port())]
        environment = {
            **os.environ,
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
            "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
            "RAY_enable_autoscaler_v2": "1",
            # Ray's provider of nodes on this machine sends no token. A user's ~/.ray/auth_token would switch tokens on.
            "RAY_AUTH_MODE": "disabled",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.write(line.encode())
            if "Ray runtime started" in line:
                return
        self.stop()
        raise AssertionError(f"the head did not start; see {log}")

    def stop(self) -> None:
        """End what this started, and nothing else."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(300)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()
        for pid in self._left():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _left(self) -> list[int]:
        """Processes of this cluster alone: its folder is in their command lines."""
        mark = str(self._folder).encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def __enter__(self) -> RayAutoscaling:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()


def _config(address: str, types: dict[str, dict[str, float]]) -> dict[str, Any]:
    nodes: dict[str, Any] = {
        name: {
            "resources": {**resources, "object_store_memory": _STORE_BYTES},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 1,
        }
        for name, resources in types.items()
    }
    nodes[_HEAD_TYPE] = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    provider = {
        "type": "external",
        "module": _PROVIDER,
        "gcs_address": address,
        "launch_multiple": True,
        "head_node_id": _HEAD_ID,
        "disable_node_updaters": True,
    }
    lists = "cluster_synced_files rsync_exclude rsync_filter initialization_commands setup_commands"
    lists += " head_setup_commands worker_setup_commands head_start_ray_commands worker_start_ray_commands"
    return {
        **{name: [] for name in lists.split()},
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "upscaling_speed": 1.0,
        "cluster_name": "tests",
        "max_workers": len(types),
        "idle_timeout_minutes": 10,
        "provider": provider,
        "available_node_types": nodes,
        "head_node_type": _HEAD_TYPE,
    }
