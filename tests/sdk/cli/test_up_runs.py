"""titan up as a process: the options that say how its jobs run."""

from __future__ import annotations

from tests.sdk.cli.test_up import Start, start
from tests.sdk.cluster.peer import Peer, script

__all__ = ["start"]  # a fixture


def test_the_warm_runner_ageing_and_devices_can_be_chosen(start: Start) -> None:
    up = start("--json", "--warm-python", "--ageing", "0", "--gpus", "5, 6")
    peer = Peer(("127.0.0.1", int(up.facts["port"])))
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], open('/proc/self/cmdline').read())"
    peer.submit(script("seen", code, tag="GPU"))
    assert peer.until("seen") == "COMPLETED"
    devices, command = peer.log("seen").split(maxsplit=1)
    assert devices == "5,6"
    assert "keeper_start.py" in command
