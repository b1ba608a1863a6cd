"""STATS_JSON: the real master's shape, ours, and what broken JSON becomes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from titan_sdk.errors import PeerProtocolError
from titan_sdk.model.stats import ClusterStats, JobHistoryEntry, WorkerStats
from titan_sdk.wire import statsjson

REAL = """{"active_workers": 2, "queue_size": 0, "workers": [
  {"port": 8080, "capabilities": "[GENERAL]", "load": "1/4", "active_job": "DAG-a",
   "history": [{"id": "DAG-a", "status": "RUNNING", "time": "812ms"},
               {"id": "DAG-b", "status": "COMPLETED", "time": "83ms", "completed_at": 1795484500710}],
   "services": ["DAG-svc"]},
  {"port": 8081, "capabilities": "[GPU, HIGH_MEM]", "load": "0/4", "active_job": null,
   "history": [], "services": []}]}"""


def test_the_real_master_s_statistics() -> None:
    stats = statsjson.parse(REAL)
    assert stats.workers == (
        WorkerStats(
            name="8080",
            port=8080,
            tags=("GENERAL",),
            running=1,
            slots=4,
            active_jobs=("DAG-a",),
            services=("DAG-svc",),
            history=(
                JobHistoryEntry("DAG-a", "RUNNING", "812ms"),
                JobHistoryEntry("DAG-b", "COMPLETED", "83ms", 1795484500.710),
            ),
        ),
        WorkerStats(name="8081", port=8081, tags=("GPU", "HIGH_MEM"), running=0, slots=4),
    )
    assert stats.queue_size == 0
    assert [worker.free for worker in stats.workers] == [3, 4]


def test_what_the_bundled_master_adds_is_kept() -> None:
    worker = {
        "port": 1,
        "capabilities": "[GPU]",
        "load": "2/2",
        "active_job": "DAG-b",
        "history": [],
        "services": [],
        "name": "GPU-1",
        "running": ["DAG-a", "DAG-b"],
    }
    text = statsjson.encode([worker], 5, server="titan-sdk-bundled", version="0.1.0")
    assert json.loads(text)["active_workers"] == 1
    stats = statsjson.parse(text)
    assert (stats.queue_size, stats.extra) == (5, {"server": "titan-sdk-bundled", "version": "0.1.0"})
    assert stats.workers[0].name == "GPU-1"
    assert stats.workers[0].active_jobs == ("DAG-a", "DAG-b")
    assert stats.workers[0].free == 0


def test_a_node_of_a_ray_cluster_has_resources() -> None:
    node = {
        "port": 8080,
        "capabilities": "[GENERAL]",
        "load": "0/2",
        "active_job": None,
        "history": [],
        "services": [],
        "resources": {"CPU": (1.5, 2), "GPU": (0, 1)},
    }
    (worker,) = statsjson.parse(statsjson.encode([node], 0)).workers
    assert worker.resources == {"CPU": (1.5, 2.0), "GPU": (0.0, 1.0)}


@pytest.mark.parametrize("resources", [{"CPU": 2}, {"CPU": [1]}, ["CPU"], "CPU"])
def test_resources_of_another_shape_are_a_peer_error(resources: object) -> None:
    node = {"port": 1, "capabilities": "[]", "load": "0/1", "resources": resources}
    with pytest.raises(PeerProtocolError):
        statsjson.parse(json.dumps({"workers": [node]}))


def test_a_worker_without_the_real_master_s_keys_is_our_bug() -> None:
    with pytest.raises(ValueError, match=r"worker statistics lack \['active_job', 'capabilities'"):
        statsjson.encode([{"port": 1}], 0)


def test_a_load_without_a_slot_count_is_a_full_worker() -> None:
    stats = statsjson.parse('{"workers": [{"port": 1, "capabilities": "[]", "load": "1"}]}')
    assert (stats.workers[0].slots, stats.workers[0].free, stats.workers[0].tags) == (0, 0, ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"workers": [,]}',
        '{"workers": [{"port": 8080}, ]}',
        '{"workers": {"a": 1}}',
        '{"workers": [3]}',
        '{"workers": [], "queue_size": "many"}',
        '{"workers": [], "queue_size": Infinity}',
        REAL.replace('"DAG-b"', '"DAG-"b"'),
        REAL.replace('"1/4"', '"?/4"'),
        '{"workers": ' + "[" * 50_000,
    ],
)
def test_broken_statistics_are_a_peer_error(text: str) -> None:
    with pytest.raises(PeerProtocolError, match="cluster_stats: the master's statistics cannot be read"):
        statsjson.parse(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["port", "load", "capabilities", "history", "running", "id"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.builds(lambda workers, queue: {"workers": workers, "queue_size": queue}, json_values, json_values))
def test_any_json_is_statistics_or_a_peer_error(data: object) -> None:
    try:
        stats = statsjson.parse(json.dumps(data))
    except PeerProtocolError:
        return
    assert isinstance(stats, ClusterStats)


def test_tags_count_live_workers_and_are_case_sensitive() -> None:
    stats = statsjson.parse(REAL)
    assert stats.tags == {"GENERAL": 1, "GPU": 1, "HIGH_MEM": 1}
    assert stats.has_worker_for("GPU")
    assert not stats.has_worker_for("gpu")
