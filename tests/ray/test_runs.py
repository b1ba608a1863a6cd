"""What happens to a job's processes, output and files on a node."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.ray.asking import info
from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting, Peer, b64, script
from tests.support.certificates import Authority, make_authority
from tests.support.ray_nodes import RayNodes
from tests.support.wheels import make_wheel, served
from titan_sdk import TLS, ClientConfig, TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.server.tls import ServerTLS

# Ray's processes take long to start on a busy machine.
# Slow: Ray's own processes take seconds to start.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

# Leaves its session and group: only its environment tells whose child it is.
TREE = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def tree(peer: Peer, meeting: Meeting, job_id: str) -> list[int]:
    """Start a job with a child in a session of its own; both process numbers."""
    word = "f'{os.getpid()} {child.pid}'.encode()"
    peer.submit(script(job_id, TREE + meeting.code("PIDS").replace("b'PIDS'", word)))
    return [int(word) for word in meeting.arrival()[0].split()]


def wait_until_stopped(peer: Peer, job_id: str) -> None:
    deadline = time.monotonic() + 240
    while info(peer, job_id)["stopping"]:
        assert time.monotonic() < deadline


def test_a_node_builds_the_environment_of_a_job_and_uses_it_again(
    client: TitanClient, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "wheels", "demo", f"1.0+{os.urandom(4).hex()}")
    source = "import demo, titan_job; titan_job.result(demo.VERSION)"
    with served(tmp_path / "wheels") as url:
        lines = ["--no-index", f"--find-links {url}", "demo"]
        reports = [
            client.submit_job(
                TitanJob(f"packages-{os.urandom(4).hex()}", source=source, requirements=lines)
            ).wait(600)
            for _ in range(2)
        ]
    assert reports[0].result.startswith("1.0+")
    assert reports[1].result == reports[0].result
    assert reports[0].environment_seconds
    assert not reports[1].environment_seconds


def test_a_project_travels_to_the_node_of_its_job(client: TitanClient, tmp_path: Path) -> None:
    """In pieces, over the way that its node's jobs have to the master."""
    (tmp_path / "trainer").mkdir()
    (tmp_path / "weights.bin").write_bytes(os.urandom(9_000_000))
    (tmp_path / "trainer" / "train.py").write_text(
        "import hashlib, titan_job\nfrom trainer.words import WORD\n"
        "titan_job.result([WORD, hashlib.sha256(open('weights.bin', 'rb').read()).hexdigest()])"
    )
    (tmp_path / "trainer" / "words.py").write_text("WORD = 'hello'")
    digest = hashlib.sha256((tmp_path / "weights.bin").read_bytes()).hexdigest()
    jobs = [
        TitanJob(f"project-{tag}", module="trainer.train", project=tmp_path, requirement=tag)
        for tag in ("GENERAL", "GPU")
    ]
    assert [job.result for job in client.submit_dag("projects", jobs).wait(600).jobs] == [
        ["hello", digest]
    ] * 2


def test_a_cancel_ends_the_whole_tree(peer: Peer, meeting: Meeting) -> None:
    pids = tree(peer, meeting, "tree")
    assert not any(gone(pid) for pid in pids)
    assert peer.cancel("tree") == "CANCELLED"
    wait_until_stopped(peer, "tree")
    assert all(gone(pid) for pid in pids)
    assert peer.status("tree") == "CANCELLED"


def test_nothing_is_left_of_a_job_that_somebody_else_kills(peer: Peer, meeting: Meeting) -> None:
    pids = tree(peer, meeting, "shot")
    os.kill(pids[0], 9)
    meeting.arrival()  # the second run: the slot is free
    assert all(gone(pid) for pid in pids)
    assert peer.cancel("shot") == "CANCELLED"
    wait_until_stopped(peer, "shot")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def task_of(job: int) -> int:
    """Ray's worker process that holds the run: the peer of its relay, which the job's environment names."""
    environment = Path(f"/proc/{job}/environ").read_bytes().split(b"\0")
    (socket_path,) = [word for word in environment if word.startswith(b"TITAN_SOCKET=")]
    return int(Path(socket_path.decode()).name.partition("-")[0])


def test_nothing_is_left_when_rays_worker_process_is_killed(peer: Peer, meeting: Meeting) -> None:
    pids = tree(peer, meeting, "orphans")
    task = task_of(pids[0])
    assert Path(f"/proc/{task}/cmdline").read_bytes().startswith(b"ray::run_job")
    os.kill(task, 9)
    meeting.arrival()  # the second run
    assert all(gone(pid) for pid in pids)
    told = info(peer, "orphans")
    assert any("was ended from outside" in text for _, text in told["history"])
    assert peer.cancel("orphans") == "CANCELLED"
    wait_until_stopped(peer, "orphans")


def test_nothing_is_left_when_the_worker_process_of_the_node_is_killed(peer: Peer, meeting: Meeting) -> None:
    pids = tree(peer, meeting, "guarded")
    worker = parent_of(parent_of(pids[0]))  # the job's guard is between
    assert b"bootstrap.py" in Path(f"/proc/{worker}/cmdline").read_bytes()
    os.kill(worker, 9)
    meeting.arrival()  # the second run, by another one
    assert all(gone(pid) for pid in pids)
    assert info(peer, "guarded")["attempts"] == 2
    assert peer.cancel("guarded") == "CANCELLED"
    wait_until_stopped(peer, "guarded")


def test_a_job_that_was_not_started_yet_can_be_cancelled(peer: Peer, meeting: Meeting) -> None:
    peer.submit(script("holder", meeting.code("holder"), tag="GPU"), script("queued", "print(1)", tag="GPU"))
    meeting.arrival()
    assert peer.cancel("queued") == "CANCELLED"
    meeting.let_go()
    assert peer.until("holder") == "COMPLETED"
    assert peer.status("queued") == "CANCELLED"


def test_output_is_there_while_the_job_runs_and_complete_at_its_end(peer: Peer, meeting: Meeting) -> None:
    peer.submit(
        script("talks", "print('first', flush=True)\n" + meeting.code("x") + "print('z' * 3_000_000)")
    )
    meeting.arrival()
    while "first\n" not in peer.log("talks"):
        assert peer.status("talks") in {"PENDING", "RUNNING"}
    meeting.let_go()
    assert peer.until("talks") == "COMPLETED"
    assert peer.log("talks") == "first\n" + "z" * 3_000_000 + "\n"


def test_an_exit_code_and_a_signal_are_told(peer: Peer) -> None:
    peer.submit(script("exits", "raise SystemExit(7)"), script("dies", "import os; os.kill(os.getpid(), 9)"))
    assert peer.until("exits") == peer.until("dies") == "DEAD"
    assert (info(peer, "exits")["exit_code"], info(peer, "dies")["exit_code"]) == (7, 137)
    assert info(peer, "exits")["attempts"] == 4


def test_a_timeout_ends_the_job_on_its_node(client: TitanClient, tmp_path: Path) -> None:
    code = tmp_path / "slow.py"
    code.write_text("import time\ntime.sleep(600)\n")
    handle = client.submit_job(TitanJob("slow", str(code), timeout=1.0, max_attempts=1))
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert not report.state.is_success
    assert "timeout" in (report.reason or "") + report.log_tail + report.describe()


def test_a_launchers_last_record_comes_with_the_end_of_its_run(nodes: RayNodes, tmp_path: Path) -> None:
    code = tmp_path / "job.py"
    code.write_text("import titan_job\ntitan_job.result({'a': 1})\n")
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = int(chosen.getsockname()[1])
    ray = {"address": nodes.address, "keep_jobs": False, "connect_seconds": 600.0}
    master = MasterProcess(tmp_path / "data", ray, metrics_port=port)
    try:
        with TitanClient(*master.start().address) as client:
            report = client.submit_job(TitanJob("records", str(code))).wait(timeout=300)
        assert (report.result, report.attempts) == ({"a": 1}, 1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
            told = reply.read().decode()
        # The claim is the only one that the launcher sends.
        assert 'titan_requests_total{operation="STORE_SWAP"} 1.0' in told.splitlines(), told
    finally:
        master.close()


def test_max_attempts_holds(client: TitanClient, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    code = tmp_path / "fails.py"
    code.write_text(f"open({str(runs)!r}, 'a').write('x')\nraise SystemExit(3)\n")
    handle = client.submit_job(TitanJob("fails-twice", str(code), max_attempts=2))
    report = handle.wait(timeout=300, raise_on_failure=False)
    assert (report.exit_code, runs.read_text()) == (3, "xx")


def test_an_archive_reaches_its_node_through_ray(peer: Peer) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("pkg/helper.py", "WORD = 'from the archive'")
        archive.writestr("pkg/main.py", "import helper, sys; print(helper.WORD, sys.argv[1:])")
    assert peer.ask(0x53, f"project.zip|{b64(packed.getvalue())}").text == "UPLOAD_SUCCESS"
    for n in range(2):  # the second one finds it on its node, or at the dispatcher
        peer.submit(f"arc-{n}|RUN_ARCHIVE|project.zip/pkg/main.py|a b|GENERAL|1|0|[]")
        assert peer.until(f"arc-{n}") == "COMPLETED", peer.log(f"arc-{n}")
        assert peer.log(f"arc-{n}") == "from the archive ['a', 'b']\n"


def test_an_archive_that_was_never_uploaded_is_a_clear_failure(peer: Peer) -> None:
    peer.submit("lost-arc|RUN_ARCHIVE|nowhere.zip/main.py||GENERAL|1|0|[]")
    assert peer.until("lost-arc") == "DEAD"
    assert "not among the uploaded files" in peer.log("lost-arc")


SERVER = """
import os, socket
listener = socket.create_server(("127.0.0.1", {port}))
while True:
    connection, _ = listener.accept()
    if connection.recv(100) == b"die":
        os._exit(3)
    connection.sendall(str(os.getpid()).encode())
    connection.close()
"""


def say(port: int, word: bytes = b"who") -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(word)
            return connection.recv(100)
    except ConnectionError:
        return b""


def test_a_service_is_started_again_and_stopped(peer: Peer, client: TitanClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    peer.submit(f"svc|DEPLOY_PAYLOAD|server.py|{b64(SERVER.format(port=port))}|{port}|GENERAL|1|0|[]")
    assert peer.until("svc") == "COMPLETED"
    first = int(say(port))
    assert ["DAG-svc"] in [list(worker.services) for worker in client.cluster_stats().workers]
    say(port, b"die")
    while not (second := say(port)):
        pass
    assert int(second) != first
    peer.ask(0x07, "DAG-svc")
    assert gone(int(second))


def test_jobs_reach_a_master_that_wants_tls_and_a_token(
    nodes: RayNodes, authority: Authority, tmp_path: Path
) -> None:
    token = "a-token-that-nobody-guesses"
    tls = ServerTLS(authority.server.cert, authority.server.key)
    ray = RaySettings(nodes.address, keep_jobs=False, connect_seconds=600.0)
    code = tmp_path / "asks.py"
    code.write_text(
        "import os, titan_job\n"
        "secret = [name for name, value in os.environ.items() if 'token-that-nobody' in value]\n"
        "titan_job.result([secret, 'TITAN_AUTH_TOKEN' in os.environ])\n"
    )
    with LocalCluster(engine="ray", ray=ray, tls=tls, token=token) as cluster:
        config = ClientConfig(cluster.host, cluster.port, tls=TLS(ca_cert=authority.ca), auth_token=token)
        with TitanClient(config=config) as client:
            report = client.submit_job(TitanJob("asks", str(code))).wait(timeout=60)
    assert report.result == [[], False]


def test_what_a_service_and_a_job_cannot_share_is_said(peer: Peer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        peer.submit(f"svc-2|DEPLOY_PAYLOAD|server.py|{b64(SERVER.format(port=port))}|{port}|GENERAL|1|0|[]")
        assert peer.until("svc-2") == "DEAD"
        assert f", its port {port} cannot be used (Address already in use)" in peer.log("svc-2")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("certificates"))
