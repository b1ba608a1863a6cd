"""Nodes that have Ray but not this package: it is brought to them, or they are named."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.asking import info
from tests.sdk.cluster.peer import Peer, b64, script
from tests.support.ray_nodes import RayNodes, need_ray
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.engines.ray.attach import NotAttached, attach
from titan_sdk.cluster.engines.ray.inside.missing_package import WITHOUT_PACKAGE
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.engines.ray.values import Front, Setup

# Ray's processes take long to start on a busy machine.
# Slow: Ray's own processes take seconds to start.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

WHENCE = "import importlib.util; print(importlib.util.find_spec('titan_sdk').origin)"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that sees what is installed here, Ray with it, except what is installed for development."""
    need_ray()
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # As a plain entry of the path: the .pth files of that folder, which lead to this package, are not read.
    (folder / "lib" / version / "site-packages" / "ray.pth").write_text(str(Path(spec.origin).parents[1]))
    python = folder / "bin" / "python"
    found = subprocess.run([python, "-c", WHENCE], capture_output=True, text=True, cwd=folder)
    if found.returncode == 0:
        pytest.skip(f"this package is not installed for development: {found.stdout}")
    return str(python)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray lets nodes import from the folder in which its driver was started, if they have one of that name."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def bare_nodes(bare: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    nodes = {"head": {"num_cpus": 0, "python": bare}, "one": {"num_cpus": 2, "python": bare}}
    with RayNodes(tmp_path_factory.mktemp("ray") / "ray.log", **nodes) as running:
        yield running


@pytest.mark.usefixtures("elsewhere")
async def test_a_head_without_this_package_is_what_the_front_says(bare_nodes: RayNodes) -> None:
    setup = Setup(bare_nodes.address, "cluster", Front("127.0.0.1", 1, "key"), None)
    with pytest.raises(NotAttached) as caught:
        await attach(setup)
    sentence = f"the Ray cluster at {bare_nodes.address} cannot be used: its head {WITHOUT_PACKAGE}"
    assert str(caught.value) == sentence


@pytest.mark.usefixtures("elsewhere")
def test_with_ship_code_jobs_of_every_kind_run_on_nodes_that_lack_this_package(
    bare_nodes: RayNodes, bare: str, tmp_path: Path
) -> None:
    code = tmp_path / "job.py"
    code.write_text("import titan_job\ntitan_job.result(titan_job.params['n'] + 1)\n")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("pkg/helper.py", "WORD = 'from the archive'")
        archive.writestr("pkg/main.py", "import helper; print(helper.WORD)")
    settings = RaySettings(bare_nodes.address, keep_jobs=False, connect_seconds=600.0, ship_code=True)
    with LocalCluster(engine="ray", ray=settings) as cluster:
        peer = Peer((cluster.host, cluster.port))
        assert peer.ask(0x53, f"project.zip|{b64(packed.getvalue())}").text == "UPLOAD_SUCCESS"
        peer.submit(
            script("plain", f"import sys; print(sys.executable); {WHENCE}"),
            "archive|RUN_ARCHIVE|project.zip/pkg/main.py||GENERAL|1|0|[]",
        )
        with TitanClient(cluster.host, cluster.port) as client:
            report = client.submit_job(TitanJob("runtime", str(code), params={"n": 1})).wait(timeout=60)
        assert report.result == 2
        assert [peer.until(job) for job in ("plain", "archive")] == ["COMPLETED"] * 2
        python, whence = peer.log("plain").splitlines()
        assert python == bare
        assert "/py_modules_files/" in whence
        assert peer.log("archive") == "from the archive\n"


@pytest.mark.usefixtures("elsewhere")
def test_a_node_without_this_package_is_what_its_jobs_say(nodes: RayNodes, bare: str) -> None:
    nodes.add("bare", python=bare, num_cpus=0, resources={"BARE": 1})
    try:
        with LocalCluster(
            engine="ray", ray=RaySettings(nodes.address, keep_jobs=False, connect_seconds=600.0)
        ) as cluster:
            peer = Peer((cluster.host, cluster.port))
            peer.submit(script("stranded", "pass", tag="BARE"))
            assert peer.until("stranded") == "DEAD"
            told = info(peer, "stranded")
    finally:
        nodes.kill("bare")
    assert told["reason"] == f"its node {WITHOUT_PACKAGE}"
