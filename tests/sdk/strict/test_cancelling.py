from __future__ import annotations

from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Meeting, Peer, script
from tests.sdk.strict.conftest import eventually, load

# Slow: The pauses of a real master are what is tested.
pytestmark = pytest.mark.slow


def test_a_running_job_is_killed_but_not_what_it_started(peer: Peer, meeting: Meeting) -> None:
    child = meeting.code("child")
    code = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n{meeting.code('job')}"
    )
    peer.submit(script("run", code), script("kid", "pass", parents=["run"], name="k.py"))
    words = dict(meeting.arrival() for _ in range(2))
    assert peer.cancel("DAG-run") == "CANCELLED"
    assert words["job"].recv(1) == b""
    assert (peer.status("DAG-run"), peer.status("DAG-kid")) == ("CANCELLED", "PENDING")
    # The grandchild lives, and holds the slot by the output that it inherited.
    eventually(lambda: load(peer) == "1/4")
    words["child"].close()
    eventually(lambda: load(peer) == "0/4")


def test_what_does_not_run_is_not_found_yet_marked(peer: Peer, meeting: Meeting) -> None:
    for number in range(4):
        peer.submit(script(f"hold{number}", meeting.code("h"), name=f"h{number}.py"))
    for _ in range(4):
        meeting.arrival()
    peer.submit(
        script("queued", "pass", name="q.py"),
        script("waits", "pass", name="w.py", parents=["nobody"]),
        script("delayed", "pass", name="d.py", delay=4000),
    )
    assert peer.cancel("DAG-waits") == "CANCELLED"
    assert peer.cancel("DAG-queued") == peer.cancel("DAG-delayed") == peer.cancel("never-seen") == "NOT_FOUND"
    names = ("DAG-waits", "DAG-queued", "DAG-delayed", "never-seen")
    assert [peer.status(name) for name in names] == ["CANCELLED"] * 4
    meeting.let_go()
    # A delayed job is not taken out: it runs when due, and its end is thrown away.
    assert peer.until("DAG-delayed", "RUNNING") == "RUNNING"
    peer.submit(script("marker", "pass", name="m.py"))
    assert peer.until("DAG-marker") == "COMPLETED"
    assert peer.status("DAG-queued") == "CANCELLED"


def test_a_finished_job_is_overwritten_and_its_next_run_has_no_end(peer: Peer, tmp_path: Path) -> None:
    done = tmp_path / "done"
    code = f"open({str(done)!r}, 'a').write('x')"
    peer.submit(script("again", code))
    assert peer.until("DAG-again") == "COMPLETED"
    assert peer.cancel("DAG-again") == "NOT_FOUND"
    assert peer.status("DAG-again") == "CANCELLED"
    peer.submit(script("again", code), script("child", "pass", parents=["again"], name="c.py"))
    eventually(lambda: done.read_text() == "xx")
    peer.submit(script("marker", "pass", name="m.py"))
    assert peer.until("DAG-marker") == "COMPLETED"
    assert (peer.status("DAG-again"), peer.status("DAG-child")) == ("RUNNING", "PENDING")
    peer.submit(script("again", code))
    assert peer.until("DAG-again") == "COMPLETED"
