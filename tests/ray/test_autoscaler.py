"""A real autoscaler brings the node that a job waits for, once it is shown the job."""

from __future__ import annotations

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


def test_a_job_that_is_shown_to_the_autoscaler_runs_on_the_node_that_it_starts(
    autoscaling: RayAutoscaling,
) -> None:
    settings = RaySettings(autoscaling.address, keep_jobs=False, connect_seconds=600.0, ahead=1)
    with LocalCluster(engine="ray", ray=settings) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(script("shown", "print('here')", tag="RARE"), script("next", "pass", tag="RARE"))
        assert peer.until("shown") == peer.until("next") == "COMPLETED"
        assert peer.log("shown") == "here\n"
        with TitanClient(cluster.host, cluster.port) as client:
            while not (workers := client.cluster_stats().workers):
                pass  # it was asked which nodes there are before this one came
        (worker,) = workers
        assert worker.tags == ("RARE",)
        assert worker.name == info(peer, "shown")["worker"] == info(peer, "next")["worker"]
