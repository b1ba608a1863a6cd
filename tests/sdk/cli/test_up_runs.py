"""titan up as a process: the options that say how its jobs run."""

from __future__ import annotations

from typer.testing import CliRunner

from tests.sdk.cli.test_up import Start, start
from tests.sdk.cluster.peer import Peer, script
from titan_sdk.cli.main import app

__all__ = ["start"]  # a fixture


def test_ageing_and_devices_can_be_chosen(start: Start) -> None:
    up = start("--json", "--ageing", "0", "--gpus", "5, 6")
    peer = Peer(("127.0.0.1", int(up.facts["port"])))
    peer.submit(script("seen", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])", tag="GPU"))
    assert peer.until("seen") == "COMPLETED"
    assert peer.log("seen") == "5,6\n"


def test_the_warm_runner_is_refused_with_a_sentence() -> None:
    done = CliRunner().invoke(app, ["up", "--warm-python"])
    assert done.exit_code == 2
    assert "--warm-python is gone: a job with the runtime is a fork" in done.output
