"""titan status and titan doctor: against a running cluster, and against masters with something wrong."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import pytest

from tests.conftest import Master
from tests.sdk.cli.conftest import Ran
from tests.support.mini_store import MiniStore
from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.wire.opcodes import Opcode


class PlainMaster(MiniStore):
    """Answers as a real Titan does: no HELLO, a constant 0 to SADD, and whatever is wrong with it."""

    def __init__(self, *, workers: int = 1, load: str = "0/4", queue: int = 0) -> None:
        self.sets: dict[str, list[str]] = {}
        self.damage: Callable[[str], str] = str
        entry = {"port": 8080, "capabilities": "[GENERAL]", "load": load, "active_job": None}
        self.stats = {"active_workers": workers, "queue_size": queue, "workers": [entry] * workers}
        super().__init__()

    def answer(self, opcode: int, payload: str) -> str:
        match opcode:
            case Opcode.HELLO:
                return "UNKNOWN_OPCODE: 64"
            case Opcode.STATS_JSON:
                return json.dumps(self.stats)
            case Opcode.KV_SADD:
                key, _, member = payload.partition("|")
                self.sets.setdefault(key, []).append(member)
                return "0"
            case Opcode.KV_SMEMBERS:
                return ",".join(dict.fromkeys(self.sets.get(payload, [])))
            case Opcode.KV_GET:
                return self.damage(super().answer(opcode, payload))
        return super().answer(opcode, payload)


@pytest.fixture
def doctor(bare) -> Callable[..., Ran]:
    """Let the doctor look at a master."""

    def examine(master: PlainMaster, *options: str) -> Ran:
        try:
            return bare("doctor", "--host", "127.0.0.1", "--port", master.port, *options)
        finally:
            master.close()

    return examine


def test_status_shows_workers_tags_load_and_queue(titan, cluster: Master) -> None:
    ran = titan("status")
    assert ran.code == 0
    head, facts, *table = ran.out.splitlines()
    assert head.endswith(f" at {cluster.host}:{cluster.port}")
    assert "workers 3 · slots " in facts
    assert "tags GENERAL 2, GPU 1" in facts
    assert [name for name in ("GENERAL-1", "GENERAL-2", "GPU-1") if name in "\n".join(table)]


def test_status_shows_what_is_queued_for_which_tag(titan, script, client: TitanClient) -> None:
    tag = f"TAG-{uuid.uuid4().hex[:8]}"
    jobs = [TitanJob(f"{tag}-{n}", str(script("pass")), requirement=tag) for n in range(2)]
    handles = [client.submit_job(job) for job in jobs]
    assert f"{tag} 2 (no worker has this tag)" in " ".join(titan("status").out.split())
    assert titan("status", "--json").json["queues"][tag] == 2
    for handle in handles:
        handle.cancel()
    assert tag not in titan("status", "--json").json["queues"]


def test_status_as_json(titan, cluster: Master) -> None:
    answer = titan("status", "--json").json
    assert answer["address"] == f"{cluster.host}:{cluster.port}"
    assert answer["tags"] == {"GENERAL": 2, "GPU": 1}
    assert {worker["name"] for worker in answer["workers"]} == {"GENERAL-1", "GENERAL-2", "GPU-1"}
    assert set(answer["server"]) == {"kind", "version", "features"}
    assert isinstance(answer["queue_size"], int)


def test_doctor_finds_a_healthy_master_well(titan) -> None:
    ran = titan("doctor", "--tag", "GPU")
    assert (ran.code, ran.err) == (0, "")
    assert all(line.startswith("✓ ") for line in ran.out.splitlines())
    checks = [line.removeprefix("✓ ").partition(":")[0] for line in ran.out.splitlines()]
    assert checks == ["connection", "master", "store", "text", "sets", "workers", "tags", "way back"]


def test_doctor_as_json(titan) -> None:
    answer = titan("--json", "doctor").json
    assert answer["healthy"] is True
    assert {finding["verdict"] for finding in answer["findings"]} == {"ok"}


def test_a_missing_tag_is_a_failed_check_with_advice(titan) -> None:
    ran = titan("doctor", "--tag", "gpu")
    assert ran.code == 1
    assert (
        "✗ tags: no worker is tagged gpu\n  → start a worker with that tag (tags are case-sensitive"
        in ran.out
    )
    answer = titan("doctor", "--tag", "gpu", "--json").json
    assert answer["healthy"] is False


def test_no_general_worker_is_only_a_warning(bare) -> None:
    with LocalCluster(workers={"GPU": 1}) as cluster:
        ran = bare("doctor", "--host", cluster.host, "--port", cluster.port)
    assert ran.code == 0
    assert "! tags: no worker is tagged GENERAL" in ran.out


def test_nobody_there_is_exit_code_3_with_advice(bare) -> None:
    with LocalCluster(workers={"GPU": 1}) as cluster:
        port = cluster.port
    ran = bare("doctor", "--host", "127.0.0.1", "--port", port)
    assert ran.code == 3
    assert "✗ connection: " in ran.out
    assert "→ start a master with `titan up`" in ran.out
    assert bare("doctor", "--json", "--host", "127.0.0.1", "--port", port).json["healthy"] is False


def test_a_real_master_is_named_and_the_way_back_is_a_warning(doctor) -> None:
    ran = doctor(PlainMaster())
    assert ran.code == 0
    assert "✓ master: Titan master, the real one\n  → it accepts anything" in ran.out
    assert "! way back: jobs call the master back at 127.0.0.1" in ran.out
    assert "set TITAN_WORKER_ADDRESS" in ran.out


def test_a_store_that_is_down_is_a_failed_check(doctor) -> None:
    master = PlainMaster()
    master.store_down = True
    ran = doctor(master)
    assert ran.code == 1
    assert "✗ store: " in ran.out
    assert "\n  → start TitanStore" in ran.out


def test_a_store_that_alters_text_is_a_failed_check(doctor) -> None:
    master = PlainMaster()
    master.damage = lambda value: value.replace("u00fc", "u0075")
    ran = doctor(master, "--json")
    assert ran.code == 1
    assert [f["check"] for f in ran.json["findings"] if f["verdict"] == "failed"] == ["text"]


def test_a_master_without_workers_is_a_failed_check(doctor) -> None:
    ran = doctor(PlainMaster(workers=0))
    assert ran.code == 1
    assert "✗ workers: the master has no workers\n  → start workers" in ran.out


def test_a_full_cluster_with_a_queue_is_a_warning(doctor) -> None:
    ran = doctor(PlainMaster(load="4/4", queue=3))
    assert ran.code == 0
    assert "! load: every slot is taken and 3 jobs wait" in ran.out


def test_status_of_a_master_without_workers_says_what_follows(bare) -> None:
    master = PlainMaster(workers=0)
    ran = bare("status", "--host", "127.0.0.1", "--port", master.port)
    master.close()
    assert "no workers: nothing submitted here can run" in ran.out
