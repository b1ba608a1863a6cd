"""What a job keeps for the case that it is killed: never less than the last completed checkpoint, on every kind of master."""

from __future__ import annotations

import os
import random

import pytest

from titan_sdk import JobStatus, NotSupported, TitanJob

KILLS = int(os.environ.get("TITAN_CHECKPOINT_KILLS", "4"))
"""How often the training is killed; 20 by hand."""
SEED = 42

TRAINING = """
import os, signal, threading, time, titan_job

told = titan_job.params
path = titan_job.restore()
start, weights = 0, 1
if path:
    start = path.step
    weights = int(open(os.path.join(path, "weights")).read())
if os.path.exists(told["completed"]):
    assert start >= int(open(told["completed"]).read()), "below the last completed checkpoint"

def kill():
    time.sleep(told["delay"])
    os.kill(os.getpid(), signal.SIGKILL)

os.mkdir("model")
for step in range(start + 1, told["steps"] + 1):
    if step == start + told["after"]:
        killer = threading.Thread(target=kill)
        killer.start()
    if told["after"] and step == start + told["after"] + 6:
        killer.join()  # on a fast machine, too, it goes no further
    weights = (weights * 6364136223846793005 + step) % 2**64
    if step % 2 == 0:
        with open("model/weights", "w") as file:
            file.write(str(weights))
        titan_job.checkpoint("model", step=step)
        with open("completed", "w") as file:
            file.write(str(step))
        os.replace("completed", told["completed"])
        titan_job.state["step"] = step
titan_job.result(weights)
"""


def ended(handle):
    return handle.wait(timeout=300, raise_on_failure=False)


def training(unique, tmp_path, key, after=0, delay=0.0):
    told = {
        "completed": str(tmp_path / "completed"),
        "after": after,
        "delay": delay,
        "steps": 15 * KILLS + 10,
    }
    # Files make it run in a folder of its own.
    return TitanJob(
        unique("train"), source=TRAINING, params=told, checkpoint_key=key, outputs={"model": "model/"}
    )


def test_a_training_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(api, unique, tmp_path):
    uninterrupted = tmp_path / "uninterrupted"
    uninterrupted.mkdir()
    reference = ended(api.submit_job(training(unique, uninterrupted, None)))
    assert reference.state is JobStatus.COMPLETED, reference.describe()
    chosen, key = random.Random(SEED), unique("training|é")
    for _ in range(KILLS):
        job = training(unique, tmp_path, key, chosen.randint(1, 8), chosen.uniform(0, 0.02))
        report = ended(api.submit_job(job))
        assert report.exception is None, report.exception
        assert report.signal == "SIGKILL", report.describe()
    report = ended(api.submit_job(training(unique, tmp_path, key)))
    assert report.state is JobStatus.COMPLETED, report.describe()
    assert report.result == reference.result
    assert api.get_checkpoint(key) is None  # success removed it


FAILS_ONCE = """
import os, titan_job
path = titan_job.restore()
titan_job.state["runs"] = titan_job.state.get("runs", 0) + 1
if path is None:
    open("f", "w").write("kept")
    titan_job.checkpoint("f", step="half")
    os.kill(os.getpid(), 9)
titan_job.result([open(path).read(), path.step, titan_job.state["runs"], titan_job.attempt])
"""


def test_the_attempts_of_a_job_share_a_checkpoint_without_a_key(api, unique):
    name = unique("own")
    report = ended(api.submit_job(TitanJob(name, source=FAILS_ONCE, max_attempts=2)))
    assert report.result == ["kept", "half", 2, 2]
    again = ended(api.submit_job(TitanJob(name, source=FAILS_ONCE, max_attempts=2)))
    assert again.result == ["kept", "half", 2, 2]  # the id is used again, the checkpoint is not


def test_a_checkpoint_is_read_kept_and_removed_by_its_key(api, unique, tmp_path, capabilities):
    key = unique("key")
    first = TitanJob(unique("a"), source=FAILS_ONCE, checkpoint_key=key)
    assert ended(api.submit_job(first)).signal == "SIGKILL"
    found = api.get_checkpoint(key)
    assert (found.step, found.state, found.job_id) == ("half", {"runs": 1}, first.full_id)
    assert api.fetch_artifact(found.file, tmp_path / "copy").read_text() == "kept"
    if "store_ops" in capabilities:
        assert [each.key for each in api.list_checkpoints(key)] == [key]
    else:
        with pytest.raises(NotSupported):
            api.list_checkpoints(key)
    keeps = TitanJob(unique("b"), source=FAILS_ONCE, checkpoint_key=key, keep_checkpoint=True)
    assert ended(api.submit_job(keeps)).result == ["kept", "half", 2, 1]
    assert api.get_checkpoint(key).step == "half"
    assert api.remove_checkpoint(key) is True
    assert api.remove_checkpoint(key) is False
    assert api.get_checkpoint(key) is None
    if "list" in capabilities:
        assert api.list_artifacts(contains=found.file.name.split("~")[1]).items == ()
    last = TitanJob(unique("c"), source=FAILS_ONCE, checkpoint_key=key)
    assert ended(api.submit_job(last)).signal == "SIGKILL"  # from nothing


REFUSED = """
import titan_job
said = []
for value in ((1, 2), {1: 2}, float("nan"), object(), "x" * 70000):
    try:
        titan_job.state["a"] = value
    except ValueError as exc:
        said.append(str(exc)[:40])
try:
    titan_job.checkpoint("gone")
except FileNotFoundError as exc:
    said.append("which holds" in str(exc))
titan_job.state["a"] = {"list": [1]}
titan_job.state["a"]["list"].append(2)
titan_job.state["a"] = titan_job.state["a"]
titan_job.state.update(a=titan_job.state["a"], b=True, c=1.5)
titan_job.state.update(b=1)
titan_job.state.update(b=1.0)
try:
    titan_job.state[True] = 1
except ValueError:
    said.append("no text")
del titan_job.state["c"]
titan_job.state.setdefault("d", "d")
said.append(titan_job.state.pop("d"))
titan_job.result([said, dict(titan_job.state)])
"""


def test_the_state_holds_json_and_says_what_it_cannot(api, unique):
    key = unique("state")
    job = TitanJob(unique("a"), source=REFUSED, checkpoint_key=key, keep_checkpoint=True)
    said, state = ended(api.submit_job(job)).result
    assert said[:4] == ["titan_job.state holds JSON values by nam"] * 4
    assert said[4:] == ["titan_job.state has 70009 bytes as JSON;", True, "no text", "d"]
    assert state == {"a": {"list": [1, 2]}, "b": 1.0}
    assert api.get_checkpoint(key).state == state
    assert type(api.get_checkpoint(key).state["b"]) is float  # equal values, too, are kept
    assert api.remove_checkpoint(key)
