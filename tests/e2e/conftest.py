"""The whole product as a user has it: a Titan cluster, a running Airflow, a browser. Started by `make e2e`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import Master
from tests.e2e.lab import DAGS as LAB_DAGS, Standalone, master
from tests.rules.sources import ROOT
from tests.support.http_dashboard import HttpDashboard
from titan_sdk import TitanClient

ARTIFACTS = ROOT / "e2e-artifacts"
XCOM_BACKEND = "titan_provider.xcom.titan_store.TitanStoreXComBackend"
# Without the background-networking flags, Chromium calls its maker's hosts at every start.
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(480))


@pytest.fixture(scope="session")
def dashboard() -> Iterator[HttpDashboard]:
    """What the connection's `dashboard_url` leads to. A real master has one; the bundled one has not."""
    with HttpDashboard() as serving:
        yield serving


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    """With a slot for a job that is being killed beside the one that takes its place."""
    folder = tmp_path_factory.mktemp("titan")
    with master(pytestconfig, folder, {"GENERAL": 2, "GPU": 1}, slots=4) as running:
        yield running


@pytest.fixture(scope="session")
def airflow(cluster: Master, dashboard: HttpDashboard) -> Iterator[Standalone]:
    """Of all examples and of the lab's DAGs."""
    # Short: Airflow's components talk over Unix sockets, whose paths are limited to about 100 characters.
    home = Path(tempfile.mkdtemp(prefix="titan-e2e-"))
    dags = home / "dags"
    dags.mkdir()
    (dags / "examples").symlink_to(ROOT / "dags_examples")
    (dags / "lab").symlink_to(LAB_DAGS)
    environ = {
        "AIRFLOW_CONN_TITAN_DEFAULT": f"titan://{cluster.address}/?dashboard_url={quote(dashboard.url, safe='')}",
        "AIRFLOW__CORE__XCOM_BACKEND": XCOM_BACKEND,
        "AIRFLOW__TITAN_PROVIDER__XCOM_THRESHOLD": "0",
    }
    with (
        TitanClient(cluster.host, cluster.port) as client,
        Standalone(home, client, environ, dags) as server,
    ):
        yield server
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "no chromium: `make e2e` installs Debian's package"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, airflow: Standalone) -> Iterator[Any]:
    opened = browser.new_page(base_url=airflow.url, viewport={"width": 1280, "height": 1000})
    opened.set_default_timeout(60_000)
    yield opened
    opened.close()


@pytest.fixture
def keep_screenshot(page: Any, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Saves what the page shows under e2e-artifacts/, which git ignores."""
    ARTIFACTS.mkdir(exist_ok=True)

    def keep(name: str) -> None:
        page.screenshot(path=ARTIFACTS / f"{request.node.name}-{name}.png", animations="disabled")

    return keep
