"""Which node runs a job, and which job is next."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ray.asking import info
from tests.sdk.cluster.peer import Meeting, Peer, script
from tests.support.ray_nodes import RayNodes
from titan_sdk import TitanClient
from titan_sdk.cluster import LocalCluster
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.engines.ray.values import Resources
from titan_sdk.model.stats import WorkerStats

# Ray's processes take long to start on a busy machine.
# Slow: Ray's own processes take seconds to start.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

WHERE = "import os; print(os.environ['TITAN_WORKER'], os.environ.get('CUDA_VISIBLE_DEVICES') or 'none')"


@pytest.mark.parametrize(
    ("tag", "node", "devices"), [("GPU", "special", "0"), ("HIGH_MEM", "special", "none")]
)
def test_a_tag_leads_to_a_node_that_has_it(
    peer: Peer, nodes: RayNodes, tag: str, node: str, devices: str
) -> None:
    peer.submit(script(f"tag-{tag}", WHERE, tag=tag))
    assert peer.until(f"tag-{tag}") == "COMPLETED"
    assert peer.log(f"tag-{tag}").split() == [nodes.node(node), devices]


def test_nothing_runs_on_a_node_without_cpus_and_all_others_are_used(
    peer: Peer, meeting: Meeting, nodes: RayNodes
) -> None:
    ids = [f"spread-{n}" for n in range(3)]
    peer.submit(*(script(job, WHERE + "\n" + meeting.code(job)) for job in ids))
    assert {meeting.arrival()[0] for _ in ids} == set(ids)  # all three at the same time
    meeting.let_go()
    for job in ids:
        assert peer.until(job) == "COMPLETED"
    ran = [peer.log(job).split()[0] for job in ids]
    assert sorted(ran) == sorted([nodes.node("plain")] * 2 + [nodes.node("special")])


def test_a_child_with_affinity_runs_where_its_parent_ran(peer: Peer, nodes: RayNodes) -> None:
    # Not where Ray would put it by itself: the other node is larger and empty.
    for n in range(3):
        parent = script(f"parent-{n}", WHERE, tag="HIGH_MEM")
        peer.submit(parent, script(f"child-{n}", WHERE, parents=[f"parent-{n}"], affinity=True))
        assert peer.until(f"child-{n}") == "COMPLETED"
        assert peer.log(f"child-{n}").split()[0] == nodes.node("special")


def test_jobs_wait_by_priority_whatever_came_first(peer: Peer, meeting: Meeting) -> None:
    peer.submit(script("prio-block", meeting.code("block"), tag="HIGH_MEM"))
    meeting.arrival()
    for priority in (1, 5, 3):
        peer.submit(
            script(f"prio-{priority}", meeting.code(str(priority)), tag="HIGH_MEM", priority=priority)
        )
    seen = []
    for _ in range(3):
        meeting.let_go()
        seen.append(meeting.arrival()[0])
    meeting.let_go()
    assert seen == ["5", "3", "1"]


def test_ray_has_the_next_jobs_ready_and_no_more(nodes: RayNodes, meeting: Meeting) -> None:
    with LocalCluster(
        engine="ray", ray=RaySettings(nodes.address, keep_jobs=False, connect_seconds=600.0, prefetch=2)
    ) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(script("runs", meeting.code("x"), tag="HIGH_MEM"))
        meeting.arrival()
        peer.submit(*(script(f"next-{n}", "pass", tag="HIGH_MEM") for n in range(4)))
        reasons = [str(info(peer, f"next-{n}")["reason"]) for n in range(4)]
        assert [("was given to the Ray cluster" in reason) for reason in reasons] == [
            True,
            True,
            False,
            False,
        ]
        assert {peer.status(f"next-{n}") for n in range(4)} == {"PENDING"}
        meeting.let_go()
        for n in range(4):
            assert peer.until(f"next-{n}") == "COMPLETED"


SPELL = """
import time
began = time.monotonic()
while time.monotonic() < began + 1.2:  # every bit of output is one more word between node and dispatcher
    print("at it", flush=True)
    time.sleep(0.05)
with open({audit!r}, "a") as audit:
    audit.write(f"{{began}} {{time.monotonic()}}\\n")
"""


def test_what_a_node_tells_meanwhile_gives_no_place_away(nodes: RayNodes, tmp_path: Path) -> None:
    audit, places, count = tmp_path / "audit", 3, 8
    code = SPELL.format(audit=str(audit))
    with LocalCluster(
        engine="ray", ray=RaySettings(nodes.address, keep_jobs=False, connect_seconds=600.0, prefetch=4)
    ) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(*(script(f"spell-{n}", code) for n in range(count)))
        for n in range(count):
            assert peer.until(f"spell-{n}") == "COMPLETED"
    spells = [tuple(map(float, line.split())) for line in audit.read_text().splitlines()]
    assert len(spells) == count
    at_once = [sum(begin <= moment < end for begin, end in spells) for moment, _ in spells]
    assert max(at_once) <= places


def test_a_delayed_job_waits_and_says_so(peer: Peer) -> None:
    peer.submit(script("delayed", "print('late')", delay=3000))
    assert "is delayed until" in info(peer, "delayed")["reason"]
    assert peer.until("delayed") == "COMPLETED"
    told = info(peer, "delayed")
    assert told["started_at"] - told["submitted_at"] >= 3.0


def test_a_gpu_can_be_shared_by_fractions(nodes: RayNodes, meeting: Meeting) -> None:
    halves = RaySettings(nodes.address, {"GPU": Resources(gpus=0.5)}, keep_jobs=False, connect_seconds=600.0)
    with LocalCluster(engine="ray", ray=halves) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(*(script(f"half-{n}", WHERE + "\n" + meeting.code("x"), tag="GPU") for n in range(2)))
        meeting.arrival()
        meeting.arrival()  # both at once on the one GPU
        meeting.let_go()
        for n in range(2):
            assert peer.until(f"half-{n}") == "COMPLETED"
            assert peer.log(f"half-{n}").split() == [nodes.node("special"), "0"]


def test_a_job_that_ray_does_not_take_is_told_of_and_holds_up_nobody(nodes: RayNodes) -> None:
    odd = RaySettings(
        nodes.address, {"ODD": Resources(gpus=1.5)}, ahead=1, keep_jobs=False, connect_seconds=600.0
    )
    with LocalCluster(engine="ray", ray=odd) as cluster:
        peer = Peer((cluster.host, cluster.port))
        peer.submit(script("odd", "pass", tag="ODD"), script("even", "pass"))
        assert peer.until("even") == "COMPLETED"
        assert peer.until("odd") == "DEAD"
        assert "Ray does not take it" in info(peer, "odd")["reason"]


def test_a_job_that_no_node_can_run_says_which_resource_is_missing(peer: Peer) -> None:
    peer.submit(script("homeless", "pass", tag="TPU"), script("beside", "pass"))
    assert peer.until("beside") == "COMPLETED"  # it stands in nobody's way
    assert peer.status("homeless") == "PENDING"
    assert info(peer, "homeless")["reason"].startswith(
        "needs TPU, and no node of the Ray cluster has that; an autoscaler cannot bring it"
    )
    peer.cancel("homeless")


def test_a_job_runs_as_soon_as_a_node_brings_what_it_needs(nodes: RayNodes, peer: Peer) -> None:
    peer.submit(script("patient", WHERE, tag="LATE"))
    assert peer.status("patient") == "PENDING"
    nodes.add("late", num_cpus=0, resources={"LATE": 1})
    assert peer.until("patient") == "COMPLETED"
    assert peer.log("patient").split()[0] == nodes.node("late")


def test_statistics_show_nodes_tags_and_free_resources(
    client: TitanClient, nodes: RayNodes, meeting: Meeting, peer: Peer
) -> None:
    peer.submit(script("shown", meeting.code("shown"), tag="GPU"))
    meeting.arrival()
    # What is free is asked of Ray once per second.
    while (special := _worker(client, nodes.node("special"))).resources["GPU"] != (0.0, 1.0):
        assert peer.status("shown") in {"PENDING", "RUNNING"}
    assert set(special.tags) >= {"GENERAL", "GPU", "HIGH_MEM"}
    assert special.resources["CPU"][1] == 1.0
    assert all(worker.name != nodes.node("head") for worker in client.cluster_stats().workers)
    assert peer.until("shown", "RUNNING") == "RUNNING"
    assert _worker(client, nodes.node("special")).active_jobs == ("DAG-shown",)
    meeting.let_go()
    assert peer.until("shown") == "COMPLETED"


def _worker(client: TitanClient, name: str) -> WorkerStats:
    return next(worker for worker in client.cluster_stats().workers if worker.name == name)
