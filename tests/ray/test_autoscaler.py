"""Whether an autoscaler could bring what a job waits for, as a real one says it; and it brings it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.ray.asking import info
from tests.sdk.cluster.peer import Peer, script
from tests.support.ray_autoscaling import RayAutoscaling
from titan_sdk import TitanClient
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.engines.ray.settings import RaySettings

# Ray's processes take long to start on a busy machine.
# Slow: Ray's own processes take seconds to start.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


@pytest.fixture(scope="module")
def autoscaling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayAutoscaling]:
    log = tmp_path_factory.mktemp("autoscaling") / "ray.log"
    types = {"general": {"CPU": 1.0}, "accelerated": {"CPU": 1.0, "GPU": 1.0}, "rare": {"RARE": 1.0}}
    with RayAutoscaling(log, **types) as running:
        yield running


def until_told(peer: Peer, job: str, words: str) -> str:
    """The reason with those words in it: of what an autoscaler can do, Ray is asked once per second."""
    pause = threading.Event()
    while words not in (reason := str(info(peer, job)["reason"])):
        assert "and no node of the Ray cluster has that; " in reason, reason
        pause.wait(0.1)
    return reason


def test_the_reason_names_the_node_type_or_says_that_there_is_none(
    autoscaling: RayAutoscaling, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A shell that has a cluster of this machine's outer address: a loopback address is still taken as it is given.
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    with LocalCluster(engine="ray", ray=RaySettings(autoscaling.address, keep_jobs=False)) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(script("gpu", "pass", tag="GPU"), script("tpu", "pass", tag="TPU"))
        until_told(
            peer,
            "gpu",
            "needs GPU, and no node of the Ray cluster has that; its autoscaler could start a node "
            "of the type accelerated, but is shown nothing: titan up with --ray-ahead",
        )
        until_told(
            peer, "tpu", "none of the node types of its autoscaler (general, accelerated, rare) has it"
        )
        assert {peer.cancel("gpu"), peer.cancel("tpu")} == {"CANCELLED"}


def test_a_job_that_is_shown_to_the_autoscaler_runs_on_the_node_that_it_starts(
    autoscaling: RayAutoscaling,
) -> None:
    settings = RaySettings(autoscaling.address, keep_jobs=False, ahead=1)
    with LocalCluster(engine="ray", ray=settings) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(script("shown", "print('here')", tag="RARE"), script("next", "pass", tag="RARE"))
        # "can start" first, and "is starting" while it waits for the node.
        reason = until_told(peer, "shown", "a node of the type rare, ")
        assert reason.startswith("was given to the Ray cluster")
        assert peer.until("shown") == peer.until("next") == "COMPLETED"
        assert peer.log("shown") == "here\n"
        with TitanClient(cluster.host, cluster.port) as client:
            while not (workers := client.cluster_stats().workers):
                pass  # it was asked which nodes there are before this one came
        (worker,) = workers
        assert worker.tags == ("RARE",)
        assert worker.name == info(peer, "shown")["worker"] == info(peer, "next")["worker"]
