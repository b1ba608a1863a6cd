"""A real Ray cluster on loopback: a head that runs nothing and two nodes, one with a GPU and a tag of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sdk.cluster.peer import Meeting, Peer
from tests.support.ray_nodes import RayNodes, need_ray
from titan_sdk import TitanClient
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.engines.ray.settings import RaySettings

NODES = {
    "head": {"num_cpus": 0},
    "plain": {"num_cpus": 2},
    "special": {"num_cpus": 1, "num_gpus": 1, "resources": {"HIGH_MEM": 1}},
}


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """For the whole session; tests that end a node bring one for it."""
    need_ray()
    with RayNodes(tmp_path_factory.mktemp("ray") / "ray.log", **NODES) as running:
        yield running


@pytest.fixture(scope="module")
def front(nodes: RayNodes) -> Iterator[LocalCluster]:
    """A master for a whole file, which hands Ray nothing that has to wait there."""
    settings = RaySettings(nodes.address, keep_jobs=False, prefetch=0, connect_seconds=600.0)
    with LocalCluster(engine="ray", ray=settings) as running:
        yield running


@pytest.fixture
def peer(front: LocalCluster) -> Peer:
    return Peer((front.host, front.port))


@pytest.fixture
def client(front: LocalCluster) -> Iterator[TitanClient]:
    with TitanClient(front.host, front.port) as connected:
        yield connected


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    made = Meeting()
    yield made
    made.close()
