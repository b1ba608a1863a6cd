"""titan checkpoints."""

from __future__ import annotations

import secrets
from pathlib import Path

from titan_sdk import TitanClient, TitanJob

SOURCE = "import titan_job; open('m', 'w').write('model'); titan_job.checkpoint('m', step=7)"


def test_checkpoints_are_listed_fetched_and_removed(titan, client: TitanClient, tmp_path: Path) -> None:
    key = f"cli-{secrets.token_hex(4)}"
    job = TitanJob(key, source=SOURCE, checkpoint_key=key, keep_checkpoint=True)
    client.submit_job(job).wait(timeout=300)
    [found] = titan("checkpoints", "ls", key, "--json").json
    assert (found["key"], found["step"], found["file"]["size"]) == (key, 7, 5)
    assert titan("checkpoints", "ls", key).out.endswith(f"5  step 7       {key}\n")
    target = tmp_path / "copy"
    assert titan("checkpoints", "get", key, "-o", target).out == f"{target}\n"
    assert target.read_text() == "model"
    assert titan("checkpoints", "rm", key).code == 0
    ran = titan("checkpoints", "rm", key)
    assert (ran.code, ran.err) == (5, f"titan: there is no checkpoint {key!r}\n")
    assert titan("checkpoints", "get", key).code == 5
    assert titan("checkpoints", "ls", key).out == ""
