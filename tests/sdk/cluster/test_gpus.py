from __future__ import annotations

from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Peer, script
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.master.job_environments import find_devices, share_out

WORKERS = [("GENERAL-1", "GENERAL"), ("GPU-1", "GPU"), ("GPU-2", "GPU")]


@pytest.mark.parametrize(
    ("devices", "shares"),
    [
        ([], {}),
        (["0"], {"GPU-1": "0", "GPU-2": "0"}),
        (["0", "1"], {"GPU-1": "0", "GPU-2": "1"}),
        (["0", "1", "2"], {"GPU-1": "0,2", "GPU-2": "1"}),
        (["GPU-8d2f", "MIG-77"], {"GPU-1": "GPU-8d2f", "GPU-2": "MIG-77"}),
    ],
)
def test_devices_are_shared_out_among_the_gpu_workers(devices: list[str], shares: dict[str, str]) -> None:
    assert share_out(WORKERS, devices) == shares


def test_the_devices_are_those_that_the_master_may_see(tmp_path: Path) -> None:
    for name in ("0000:3b:00.0", "0000:5e:00.0"):
        (tmp_path / name).mkdir()
    assert find_devices({}, tmp_path) == ("0", "1")
    assert find_devices({"CUDA_VISIBLE_DEVICES": "3, 5"}, tmp_path) == ("3", "5")
    assert find_devices({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == ()
    assert find_devices({}, tmp_path / "none") == ()


def test_a_gpu_job_sees_the_devices_of_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    code = "import os; print(os.environ['TITAN_WORKER'], os.environ.get('CUDA_VISIBLE_DEVICES'))"
    workers = {"GENERAL": 1, "GPU": 1}
    with LocalCluster(workers, gpus=["4", "7"]) as cluster:
        peer = Peer((cluster.host, cluster.port))
        for tag, seen in (("GENERAL", "GENERAL-1 None\n"), ("GPU", "GPU-1 4,7\n")):
            peer.submit(script(f"on-{tag}", code, tag=tag))
            assert peer.until(f"on-{tag}") == "COMPLETED"
            assert seen.strip() in peer.ask(0x16, f"on-{tag}").text
