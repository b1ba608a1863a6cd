"""`titan up --engine ray` and `titan status`, as people type them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.asking import info
from tests.sdk.cluster.peer import Peer, script
from tests.support.ray_nodes import RayNodes, need_ray
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.engines.ray.settings import RaySettings

# Ray's processes take long to start on a busy machine.
# Slow: Ray's own processes take seconds to start.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

TITAN = [sys.executable, "-m", "titan_sdk"]


@pytest.fixture
def up(tmp_path: Path, nodes: RayNodes) -> Iterator[dict[str, object]]:
    """What a running `titan up` said when it was ready."""
    words = ["--json", "up", "--engine", "ray", "--ray-address", nodes.address, "--port", "0"]
    words += ["--data-dir", str(tmp_path / "data"), "--tag-resources", "GPU=num_gpus:0.5", "--ray-ahead", "1"]
    process = subprocess.Popen([*TITAN, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield dict(json.loads(process.stdout.readline()))
    finally:
        process.terminate()
        assert process.wait(120) == 0
        process.stdout.close()


def test_the_command_line_starts_a_front_and_shows_its_nodes(up: dict[str, object], nodes: RayNodes) -> None:
    assert up["engine"] == "ray"
    environment = {**os.environ, "TITAN_HOST": "127.0.0.1", "TITAN_PORT": str(up["port"])}
    shown = subprocess.run([*TITAN, "status"], env=environment, capture_output=True, text=True, check=True)
    (special,) = [line for line in shown.stdout.splitlines() if nodes.node("special") in line]
    assert "free resources" in shown.stdout
    assert "GENERAL, GPU, HIGH_MEM" in special
    assert "GPU 1/1" in special
    peer = Peer(("127.0.0.1", int(str(up["port"]))))
    peer.submit(script("shows-demand", "pass", tag="TPU"))
    # It was handed to Ray, for an autoscaler to see; it has not begun for all that.
    assert peer.status("shows-demand") == "PENDING"
    assert "was given to the Ray cluster" in info(peer, "shows-demand")["reason"]
    assert peer.cancel("shows-demand") == "CANCELLED"


def test_rays_worker_process_waits_for_the_next_job(tmp_path: Path) -> None:
    """Of a Ray job that is over, as that of the driver that attaches, Ray ends idle ones within a second or two."""
    need_ray()
    with RayNodes(tmp_path / "ray.log", head={"num_cpus": 1}) as ray:
        settings = RaySettings(ray.address, keep_jobs=False, connect_seconds=600.0)
        with LocalCluster(engine="ray", ray=settings) as cluster:
            peer = Peer((cluster.host, cluster.port))
            peer.submit(script("first", "import os; print(os.environ['TITAN_SOCKET'])"))
            assert peer.until("first") == "COMPLETED"
            task = int(Path(peer.log("first").strip()).name.partition("-")[0])
            descriptor = os.pidfd_open(task)
            try:
                assert not select.select([descriptor], [], [], 5.0)[0]
            finally:
                os.close(descriptor)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray-ahead", "1"], "need --engine ray"),
        (["--ray-prefetch", "1"], "need --engine ray"),
        (["--engine", "ray", "--tag-resources", "GPU=much"], "needs an amount"),
        (["--engine", "slurm"], "give process or ray"),
    ],
)
def test_options_that_cannot_work_are_refused_in_a_sentence(
    words: list[str], said: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [*TITAN, "up", "--port", "0", "--data-dir", str(tmp_path), *words], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())
