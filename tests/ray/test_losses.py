"""What is left when a part of the cluster is lost. The jobs themselves count how often they ran."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.ray.asking import history, info
from tests.ray.counting import counted, runs
from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Meeting, b64, script
from tests.support.process_watch import has_ended
from tests.support.ray_nodes import RayNodes, need_ray
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.errors import TitanError

# Ray's processes take long to start on a busy machine.
# Slow: Ray's own processes take seconds to start.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


@pytest.fixture
def master(tmp_path: Path, nodes: RayNodes) -> Iterator[MasterProcess]:
    """A front in a process of its own."""
    made = MasterProcess(tmp_path / "data", nodes.address)
    yield made
    made.close()


SERVE = """
import socket
with socket.create_server(("127.0.0.1", {port})) as listener:
    while True:
        listener.accept()[0].close()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except ConnectionError:
        return False
    return True


def until(true: Callable[[], bool]) -> None:
    """Ask again and again; the test's own time limit ends it."""
    pause = threading.Event()
    while not true():
        pause.wait(0.05)


def test_a_front_that_is_killed_gives_its_jobs_to_the_next_one(
    master: MasterProcess, meeting: Meeting, tmp_path: Path
) -> None:
    peer = master.start()
    go_on = meeting.code("begun") + "print('after', flush=True)\n"
    peer.submit(
        script("goes-on", counted(tmp_path, "goes-on", "print('before', flush=True)\n" + go_on)),
        script("next", counted(tmp_path, "next", "print('next')"), parents=["goes-on"]),
    )
    meeting.arrival()
    master.kill()
    meeting.let_go()  # it ends while no front is there
    peer = master.start()
    assert peer.until("next") == "COMPLETED"
    assert peer.status("goes-on") == "COMPLETED"
    assert peer.log("goes-on") == "before\nafter\n"
    assert (runs(tmp_path, "goes-on"), runs(tmp_path, "next")) == (1, 1)
    assert any("taken over" in text for text in history(peer, "goes-on"))


def test_a_front_that_is_stopped_leaves_its_jobs_and_services_to_the_next_one(
    master: MasterProcess, meeting: Meeting, tmp_path: Path, nodes: RayNodes
) -> None:
    peer = master.start()
    port = free_port()
    serve = counted(tmp_path, "service", SERVE.format(port=port))
    peer.submit(f"svc|DEPLOY_PAYLOAD|s.py|{b64(serve)}|{port}|GENERAL|1|0|[]")
    assert peer.until("svc") == "COMPLETED"
    peer.submit(script("job", counted(tmp_path, "job", meeting.code("job"))))
    meeting.arrival()
    assert master.stop() == 0
    peer = master.start()
    meeting.let_go()
    assert peer.until("job") == "COMPLETED"
    assert answers(port)
    assert (runs(tmp_path, "job"), runs(tmp_path, "service")) == (1, 1)
    peer.ask(0x07, "DAG-svc")
    assert not answers(port)


def test_a_node_that_dies_sends_its_jobs_to_another_one(
    master: MasterProcess, meeting: Meeting, tmp_path: Path, nodes: RayNodes
) -> None:
    nodes.add("victim", num_cpus=0, resources={"FRAGILE": 1})
    peer = master.start()
    peer.submit(script("moves", counted(tmp_path, "moves", meeting.code("begun")), tag="FRAGILE"))
    meeting.arrival()
    lost = nodes.node("victim")
    nodes.add("heir", num_cpus=0, resources={"FRAGILE": 1})
    nodes.kill("victim")
    meeting.arrival()  # its second run
    meeting.let_go()
    assert peer.until("moves") == "COMPLETED"
    assert f"queued again: node {lost} died" in history(peer, "moves")
    assert (runs(tmp_path, "moves"), info(peer, "moves")["attempts"]) == (2, 2)
    assert info(peer, "moves")["worker"] == nodes.node("heir")


def test_a_dispatcher_that_dies_costs_its_runs_and_nothing_else(
    master: MasterProcess, meeting: Meeting, tmp_path: Path, nodes: RayNodes
) -> None:
    peer = master.start()
    peer.submit(script("again", counted(tmp_path, "again", meeting.code("begun"))))
    meeting.arrival()
    nodes.kill_actor(f"dispatcher-{(tmp_path / 'data' / 'cluster-id').read_text().strip()}")
    meeting.arrival()
    meeting.let_go()
    assert peer.until("again") == "COMPLETED"
    assert any(
        "its dispatcher, or the whole cluster, was restarted" in text for text in history(peer, "again")
    )
    # Not the job's doing, so it does not count.
    assert (runs(tmp_path, "again"), info(peer, "again")["attempts"]) == (2, 1)


def home_of(cluster: str) -> int:
    """The driver that the dispatcher's tasks belong to."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            words = path.read_bytes()
            if b"ray.inside.dispatcher_driver\0" in words and cluster.encode() in words:
                found.append(int(path.parent.name))
    (pid,) = found
    return pid


def test_the_driver_beside_a_dispatcher_costs_nothing_when_it_dies(
    master: MasterProcess, meeting: Meeting, tmp_path: Path
) -> None:
    peer = master.start()
    peer.submit(script("goes-on", counted(tmp_path, "goes-on", meeting.code("begun"))))
    meeting.arrival()
    home = home_of((tmp_path / "data" / "cluster-id").read_text().strip())
    os.kill(home, signal.SIGKILL)
    until(lambda: has_ended(str(home)))
    peer.submit(script("comes", counted(tmp_path, "comes", "")))
    assert peer.until("comes") == "COMPLETED"
    assert peer.status("goes-on") == "RUNNING"
    meeting.let_go()
    assert peer.until("goes-on") == "COMPLETED"
    assert (runs(tmp_path, "goes-on"), runs(tmp_path, "comes")) == (1, 1)


def test_a_service_outlives_its_dispatcher(master: MasterProcess, tmp_path: Path, nodes: RayNodes) -> None:
    peer, port = master.start(), free_port()
    serve = counted(tmp_path, "svc", SERVE.format(port=port))
    peer.submit(f"svc|DEPLOY_PAYLOAD|s.py|{b64(serve)}|{port}|GENERAL|1|0|[]")
    assert peer.until("svc") == "COMPLETED"
    nodes.kill_actor(f"dispatcher-{(tmp_path / 'data' / 'cluster-id').read_text().strip()}")
    peer.submit(script("after", "pass"))
    assert peer.until("after", seconds=60) == "COMPLETED"  # by the next dispatcher
    assert answers(port)
    assert runs(tmp_path, "svc") == 1
    peer.ask(0x07, "DAG-svc")
    assert not answers(port)


def test_a_front_outlives_its_ray_cluster_and_its_jobs_go_to_the_next_one(
    meeting: Meeting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_ray()
    # Ray waits a minute for a lost head.
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "2")
    with (
        RayNodes(tmp_path / "first.log", head={"num_cpus": 1}) as ray,
        closing(MasterProcess(tmp_path / "data", ray.address)) as master,
    ):
        peer = master.start()
        peer.submit(script("lost", counted(tmp_path, "lost", meeting.code("begun"))))
        meeting.arrival()
        assert peer.until("lost", "RUNNING") == "RUNNING"
        ray.kill_head()
        peer.submit(script("queued", counted(tmp_path, "queued", "print(1)")))
        until(lambda: "GCS" in str(info(peer, "queued")["reason"]))
        # What ran is lost; whether the front heard of it before it heard nothing more is Ray's affair.
        assert peer.status("lost") in {"RUNNING", "PENDING"}
        assert peer.status("queued") == "PENDING"
        assert master.stop() == 0
    with (
        RayNodes(tmp_path / "second.log", head={"num_cpus": 1}) as ray,
        closing(MasterProcess(tmp_path / "data", ray.address)) as master,
    ):
        peer = master.start()
        meeting.arrival()
        meeting.let_go()
        assert peer.until("lost") == peer.until("queued") == "COMPLETED"
        assert (runs(tmp_path, "lost"), runs(tmp_path, "queued")) == (2, 1)
        assert any(text.startswith("queued again") for text in history(peer, "lost"))


def test_a_front_outside_the_cluster_connects_through_rays_client(tmp_path: Path) -> None:
    need_ray()
    port = free_port()
    head = {"num_cpus": 1, "ray_client_server_port": port}
    with (
        RayNodes(tmp_path / "ray.log", head=head),
        closing(MasterProcess(tmp_path / "data", f"ray://127.0.0.1:{port}")) as master,
    ):
        peer = master.start()
        peer.submit(script("through", counted(tmp_path, "through", "print('the client')")))
        assert peer.until("through", seconds=60) == "COMPLETED"
        assert peer.log("through") == "the client\n"


def test_a_cluster_that_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    need_ray()
    ray = RaySettings(f"127.0.0.1:{free_port()}", connect_seconds=10.0)
    with pytest.raises(TitanError, match="Ray"):
        LocalCluster(engine="ray", ray=ray).start()


def test_an_address_where_the_cluster_does_not_find_this_front_is_refused_at_once(nodes: RayNodes) -> None:
    port = free_port()
    ray = RaySettings(nodes.address, advertise=("127.0.0.1", port), keep_jobs=False, connect_seconds=600.0)
    words = rf"head of the Ray cluster .* cannot reach this front at 127\.0\.0\.1:{port}.*--advertise-address"
    with pytest.raises(TitanError, match=words):
        LocalCluster(engine="ray", ray=ray).start()
