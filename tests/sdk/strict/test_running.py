from __future__ import annotations

import json
import socket
import zipfile
from pathlib import Path

import pytest

from tests.sdk.cluster.peer import Meeting, Peer, b64, script
from tests.sdk.strict.conftest import QUICK, eventually, load
from titan_sdk.cluster import LocalCluster
from titan_sdk.strict import StrictSettings

# Slow: The pauses of a real master are what is tested.
pytestmark = pytest.mark.slow


def runs(tmp_path: Path, ending: str) -> str:
    return f"open({str(tmp_path / 'runs')!r}, 'a').write('x')\n{ending}"


def test_any_failing_job_runs_four_times(peer: Peer, tmp_path: Path) -> None:
    for code in (1, 97, 98):
        (tmp_path / "runs").unlink(missing_ok=True)
        peer.submit(script(f"f{code}", runs(tmp_path, f"raise SystemExit({code})")))
        assert peer.until(f"DAG-f{code}") == "DEAD"
        assert (tmp_path / "runs").read_text() == "xxxx"


def test_files_of_one_name_overwrite_each_other(peer: Peer, meeting: Meeting) -> None:
    own_file = meeting.code("@").replace("b'@'", "open(__file__, 'rb').readline()")
    waiting = []
    for name in ("one", "two"):
        peer.submit(script(name, f"# {name}\n" + meeting.code(name) + own_file, name="main.py"))
        # It runs, so its file is there: the next is staged while this one waits.
        word, connection = meeting.arrival()
        assert word == name
        waiting.append(connection)
    waiting[0].close()
    assert meeting.arrival()[0] == "# two\n"


def test_jobs_inherit_and_nothing_is_added(peer: Peer) -> None:
    code = "import os,sys,json\nprint(json.dumps([sorted(k for k in os.environ if 'TITAN' in k), os.getcwd(), sys.argv[1:]]))"
    peer.submit(script("env", code, args="a  'b c'"))
    assert peer.until("DAG-env") == "COMPLETED"
    eventually(lambda: peer.log("DAG-env"))
    names, cwd, argv = json.loads(peer.log("DAG-env"))
    # The variable of the test suite, which stands for one of a worker's own settings.
    assert names == ["TITAN_RUNTIME_ENVIRONMENTS"]
    assert cwd.endswith("titan_workspace/shared")
    assert argv == ["a", "'b", "c'"]


def test_the_log_is_a_ring_of_the_last_hundred_lines_received(peer: Peer, cluster: LocalCluster) -> None:
    peer.submit(script("chatty", "for i in range(1000): print(i)\nprint('a\\rb')"))
    assert peer.until("DAG-chatty") == "COMPLETED"
    whole = cluster.data_dir / "logs" / "DAG-chatty.log"
    eventually(lambda: whole.exists() and whole.read_text().count("\n") == 1002)
    assert len(peer.log("DAG-chatty").split("\n")) == 100
    assert sorted(whole.read_text().split()) == sorted([*map(str, range(1000)), "a", "b"])


def test_output_over_the_packet_limit_leaves_running_for_ever(peer: Peer, meeting: Meeting) -> None:
    peer.submit(script("loud", meeting.code("up") + "print('x' * 10_500_000)"))
    meeting.arrival()
    eventually(lambda: load(peer) == "1/4")
    meeting.let_go()
    eventually(lambda: load(peer) == "0/4")
    assert peer.status("DAG-loud") == "RUNNING"


def test_a_plain_job_has_a_time_limit_that_it_only_learns_of_at_its_end(peer: Peer, tmp_path: Path) -> None:
    slow = b64(runs(tmp_path, "import time; time.sleep(0.6)"))
    peer.ask(0x03, f"slow|RUN_PAYLOAD|s.py||{slow}|GENERAL|1|0")
    assert peer.until("slow") == "DEAD"
    assert (tmp_path / "runs").read_text() == "xxxx"


def test_other_kinds_of_files_never_run(peer: Peer) -> None:
    for number, name in enumerate(("x.PY", "x.txt", "no/folder.py", "../out.py")):
        peer.submit(script(f"k{number}", "pass", name=name))
        assert peer.until(f"DAG-k{number}") == "DEAD"
        assert peer.log(f"DAG-k{number}") == ""


def test_a_failed_run_leaks_its_slot_until_the_next_heartbeat() -> None:
    with LocalCluster({"GENERAL": 1}, strict_titan=StrictSettings(first_heartbeat=600.0)) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(script("bad", "raise SystemExit(1)"))
        assert peer.until("DAG-bad") == "DEAD"
        worker = json.loads(peer.ask(0x09).text)["workers"][0]
        assert worker["load"] == "4/4"
        assert worker["history"][0]["status"] == "DEAD"


def test_a_saturated_worker_spends_attempts(meeting: Meeting) -> None:
    with LocalCluster({"GENERAL": 1}, slots=1, strict_titan=QUICK) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(script("long", meeting.code("up"), name="l.py"))
        meeting.arrival()
        peer.submit(script("starved", "print('ran')", name="s.py"))
        # Each re-registration makes the master believe in a free slot; the worker knows better.
        assert peer.until("DAG-starved") == "DEAD"
        assert peer.log("DAG-starved") == ""


def test_a_worker_that_is_not_there_costs_four_attempts(peer: Peer) -> None:
    ghost = "9||GHOST||true"
    assert peer.ask(0x02, ghost).text == "REGISTERED"
    peer.submit(script("ghostly", "pass", tag="GHOST"))
    # A heartbeat may drop it before the fourth.
    eventually(lambda: peer.ask(0x02, ghost).ok and peer.status("DAG-ghostly") == "DEAD")


def test_archives_drop_their_arguments(peer: Peer, cluster: LocalCluster, tmp_path: Path) -> None:
    with zipfile.ZipFile(cluster.data_dir / "uploads" / "p.zip", "w") as archive:
        archive.writestr("src/main.py", "import os, sys; print(sys.argv[1:], os.path.basename(os.getcwd()))")
    peer.submit("arc|RUN_ARCHIVE|p.zip/src/main.py|fast 1|GENERAL|1|0|[]")
    assert peer.until("DAG-arc") == "COMPLETED"
    eventually(lambda: peer.log("DAG-arc"))
    assert peer.log("DAG-arc") == "[] src"
    peer.submit("none|RUN_ARCHIVE|absent.zip/main.py||GENERAL|1|0|[]")
    assert peer.until("DAG-none") == "DEAD"


def test_a_service_survives_its_cancel_and_ends_by_stop(peer: Peer) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"import socket,time; s=socket.create_server(('127.0.0.1',{port})); time.sleep(600)"
    line = f"svc|DEPLOY_PAYLOAD|s.py|{b64(code)}|{port}|GENERAL|1|0|[]"
    peer.submit(line)
    assert peer.until("DAG-svc") == "COMPLETED"
    assert peer.cancel("DAG-svc") == "CANCELLED"
    socket.create_connection(("127.0.0.1", port)).close()
    # The port is taken: neither retried nor told to anybody.
    peer.submit(line.replace("svc|", "again|", 1), script("next", "pass", name="n.py"))
    assert peer.until("DAG-next") == "COMPLETED"
    assert peer.status("DAG-again") == "RUNNING"
    assert peer.ask(0x07, "svc").text.startswith("ERROR: Service svc not found in liveServiceMap")
    assert peer.ask(0x07, "DAG-svc").text == "STOPPED: DAG-svc"
    assert peer.status("DAG-svc") == "CANCELLED"


def test_port_0_freezes_dispatch_and_orphans_the_process(peer: Peer, meeting: Meeting) -> None:
    peer.submit(f"zero|DEPLOY_PAYLOAD|z.py|{b64(meeting.code('up'))}|0|GENERAL|1|0|[]")
    assert meeting.arrival()[0] == "up"
    assert peer.until("DAG-zero") == "DEAD"
    assert "not found" in peer.ask(0x07, "DAG-zero").text
