"""Fixtures of the whole suite: a master to talk to, both clients, and an Airflow that touches nobody's home.

`--titan-address host:port` points the same tests at another master, such as a real Titan, and `--strict-titan` at one
that behaves like it; what that master cannot do is skipped by the name of the missing capability (`@pytest.mark.needs("exact_text")`).
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer
    from titan_sdk import AsyncTitanClient, TitanClient

# Airflow reads its settings when it is first imported, which a test module may do while it is collected.
_AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="titan-tests-airflow-"))
os.environ.update(
    {
        "AIRFLOW_HOME": str(_AIRFLOW_HOME),
        "TITAN_RUNTIME_ENVIRONMENTS": str(_AIRFLOW_HOME / "environments"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(_AIRFLOW_HOME / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_AIRFLOW_HOME}/airflow.db",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # Set by the developer's shell for a cluster of their own, these would leak into the tests.
        "TITAN_HOST": "127.0.0.1",
    }
)
for _name in ("TITAN_PORT", "AIRFLOW_CONN_TITAN_DEFAULT", "AIRFLOW__CORE__XCOM_BACKEND"):
    os.environ.pop(_name, None)
# How long an example takes says how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")
# A shell's background job ignores Ctrl-C and passes that on to every process the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    shutil.rmtree(_AIRFLOW_HOME, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("titan")
    group.addoption(
        "--titan-address", metavar="HOST:PORT", help="run against this master, not a LocalCluster"
    )
    group.addoption(
        "--titan-store",
        choices=["sqlite", "redis"],
        default="sqlite",
        help="where the session's LocalCluster keeps its state; redis: in a redis-server of the session's own",
    )
    group.addoption("--strict-titan", action="store_true", help="run against LocalCluster(strict_titan=True)")
    group.addoption(
        "--titan-engine",
        choices=["process", "ray"],
        default="process",
        help="what the LocalCluster runs jobs with; ray starts a Ray cluster of three nodes on loopback",
    )
    group.addoption("--upstream", metavar="PATH", help="folder of the unmodified upstream SDK's checkout")


@pytest.fixture(autouse=True, scope="module")
def _what_is_left_open_is_told_here() -> Iterator[None]:
    """Python warns of a socket, a process or a coroutine that nobody has closed when it collects it, and whichever test
    runs then fails. So each module collects what it has made, and fails itself.
    """
    gc.freeze()  # what is older is not looked at, which makes it cheap
    yield
    for name in ("last_type", "last_value", "last_traceback"):
        sys.__dict__.pop(name, None)  # of a test that failed: they hold all of its variables
    gc.collect()
    gc.unfreeze()


@dataclass(frozen=True)
class Master:
    """A master that somebody else started; the part of LocalCluster that tests may rely on."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A running master with two GENERAL workers and one GPU worker, shared by the whole session."""
    address: str | None = request.config.getoption("--titan-address")
    if address is not None:
        host, _, port = address.rpartition(":")
        yield Master(host, int(port))
        return
    yield from serve_cluster(request, tmp_path_factory)


def serve_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[object]:
    """A LocalCluster with the engine and the store that the command line names."""
    from titan_sdk.cluster import LocalCluster

    data_dir = tmp_path_factory.mktemp("titan-cluster")
    strict: bool = request.config.getoption("--strict-titan")
    options = cluster_options(request)
    if request.config.getoption("--titan-engine") == "ray":
        from tests.support.ray_nodes import RayNodes, need_ray
        from titan_sdk.cluster.engines.ray.settings import RaySettings

        need_ray()
        nodes = {"head": {"num_cpus": 0}, "one": {"num_cpus": 2}, "two": {"num_cpus": 0, "num_gpus": 1}}
        with RayNodes(data_dir / "ray.log", **nodes) as ray:
            settings = RaySettings(ray.address, keep_jobs=False, connect_seconds=600.0)
            with LocalCluster(data_dir=data_dir, engine="ray", ray=settings, **options) as running:
                yield running
        return
    with LocalCluster({"GENERAL": 2, "GPU": 1}, data_dir=data_dir, strict_titan=strict, **options) as running:
        yield running


def cluster_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the command line says about the session's LocalCluster."""
    options: dict[str, Any] = {}
    if request.config.getoption("--titan-store") == "redis":
        options["store"] = request.getfixturevalue("redis_server").url
        options["store_prefix"] = uuid.uuid4().hex
    return options


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis for the whole session; whoever uses it takes a prefix of its own."""
    from tests.support.redis_server import RedisServer

    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def capabilities(cluster: Master) -> frozenset[str]:
    """What the master announces beyond Titan v1; a real Titan announces nothing."""
    from titan_sdk import TitanClient

    with TitanClient(cluster.host, cluster.port) as probe:
        return frozenset(probe.server_info().features)


@pytest.fixture(autouse=True)
def _skip_what_the_master_cannot_do(request: pytest.FixtureRequest) -> None:
    wanted = {name for marker in request.node.iter_markers("needs") for name in marker.args}
    if wanted:
        missing = wanted - request.getfixturevalue("capabilities")
        if missing:
            pytest.skip(f"the master does not announce: {', '.join(sorted(missing))}")


@pytest.fixture
def client(cluster: Master) -> Iterator[TitanClient]:
    from titan_sdk import TitanClient

    with TitanClient(cluster.host, cluster.port) as connected:
        yield connected


@pytest.fixture
async def async_client(cluster: Master) -> AsyncIterator[AsyncTitanClient]:
    from titan_sdk import AsyncTitanClient

    async with AsyncTitanClient(cluster.host, cluster.port) as connected:
        yield connected


@pytest.fixture(scope="session")
def upstream_path(request: pytest.FixtureRequest) -> Path:
    """Checkout of the upstream SDK; its package has our package's name, so import it in a subprocess only."""
    given: str | None = request.config.getoption("--upstream")
    if given is None:
        pytest.skip("needs --upstream PATH")
    return Path(given).resolve()


@pytest.fixture
def airflow_connection(cluster: Master, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of a `titan` connection to the session's master, for this process and the ones it starts."""
    monkeypatch.setenv("AIRFLOW_CONN_TITAN_DEFAULT", f"titan://{cluster.host}:{cluster.port}")
    return "titan_default"


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """AIRFLOW_HOME of this test session, with a migrated database."""
    from tests.support.airflow_env import migrate

    migrate(_AIRFLOW_HOME)
    return _AIRFLOW_HOME
