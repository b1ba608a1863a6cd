from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mini_store import MiniStore
from tests.support.runtime_bench import Bench
from titan_sdk.runtime.bundle import runtime_bundle


@pytest.fixture
def store() -> Iterator[MiniStore]:
    served = MiniStore()
    bundle = runtime_bundle()
    served.assets[bundle.name] = bundle.data
    yield served
    served.close()


@pytest.fixture(scope="session")
def warm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests that are not about it, as on a worker that has run jobs before."""
    return tmp_path_factory.mktemp("runtime") / "cache"


@pytest.fixture
def bench(store: MiniStore, warm_cache: Path) -> Iterator[Bench]:
    # Not tmp_path: jobs open Unix sockets below it, whose paths may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        made = Bench(store, Path(folder))
        made.environment["TITAN_RUNTIME_CACHE"] = str(warm_cache)
        yield made
        made.close()
