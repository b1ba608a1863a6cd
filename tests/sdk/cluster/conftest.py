from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sdk.cluster.peer import Meeting, Peer
from titan_sdk.cluster import LocalCluster


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalCluster]:
    """One cluster for a whole file: two GENERAL workers, one GPU."""
    with LocalCluster() as running:
        yield running


@pytest.fixture
def peer(shared: LocalCluster) -> Peer:
    return Peer((shared.host, shared.port))


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    made = Meeting()
    yield made
    made.close()
