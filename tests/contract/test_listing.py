"""Pages of jobs, DAGs, services and artifacts, and which jobs have changed."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from titan_sdk import JobStatus, NotSupported, RequestRefused, TitanClient, TitanJob

LISTS = ("list_jobs", "list_services", "list_dags", "list_artifacts")


@pytest.fixture
def job(script):
    def make(job_id, text="print(1)", **more):
        return TitanJob(job_id, script(text, f"{job_id}.py"), **more)

    return make


@pytest.mark.needs("list")
def test_jobs_are_listed_by_what_is_known_of_them(api, unique, job):
    name = unique("listed")
    began = time.time() - 5
    api.submit_job(job(f"{name}-good", requirement="GPU")).wait(timeout=300)
    bad = job(f"{name}-bad", "raise SystemExit(3)")
    api.submit_dag(name, [bad, job(f"{name}-never", parents=[f"{name}-bad"])]).wait(
        timeout=300, raise_on_failure=False
    )
    page = api.list_jobs(contains=name.upper(), since=began, count=True)
    assert (page.total, page.cursor, len(page.items)) == (3, None, 3)
    good, failed = (next(i for i in page.items if i.job_id.endswith(end)) for end in ("-good", "-bad"))
    assert (good.state, good.tag, good.dag, good.run) == (JobStatus.COMPLETED, "GPU", None, None)
    assert (failed.state, failed.tag, failed.dag, failed.exit_code) == (JobStatus.DEAD, "GENERAL", name, 3)
    assert (failed.attempts, failed.service) == (1, None)
    assert began < good.submitted_at <= good.started_at <= good.ended_at
    assert good.worker
    assert [i.job_id for i in api.list_jobs(prefix=name, tag="GPU").items] == [f"DAG-{name}-good"]
    assert len(api.list_jobs(contains=name, states=[JobStatus.DEAD]).items) == 2
    assert {i.job_id for i in api.list_jobs(dag=name, run=failed.run).items} == {
        f"DAG-{name}-bad",
        f"DAG-{name}-never",
    }
    assert api.list_jobs(contains=name, until=began).items == ()
    assert {i.job_id for i in api.list_jobs(contains=name, order="started").items} == {
        f"DAG-{name}-good",
        f"DAG-{name}-bad",
    }


@pytest.mark.needs("list")
def test_pages_follow_one_another_while_jobs_come(api, unique, job):
    name = unique("paged")
    later = [job(f"{name}-{n}", delay=3600) for n in range(5)]
    api.submit_dag(name, later)
    whole = [item.job_id for item in api.list_jobs(contains=name).items]
    seen, cursor = [], None
    for _ in range(3):
        page = api.list_jobs(contains=name, limit=2, cursor=cursor)
        seen += [item.job_id for item in page.items]
        cursor = page.cursor
        api.submit_job(job(f"{unique(name)}-new", delay=3600))
    assert cursor is None
    assert seen == whole
    oldest = api.list_jobs(contains=name, order="oldest")
    assert [item.job_id for item in oldest.items][:5] == whole[::-1]
    for item in oldest.items:
        api.cancel_job(item.job_id)


@pytest.mark.needs("list")
def test_dags_are_listed_with_the_states_of_their_jobs(api, unique, job):
    name = unique("dags: 100%")
    dag = api.submit_dag(name, [job(unique("a")), job(unique("b"), delay=3600)])
    dag.jobs[0].wait(timeout=300)
    (item,) = api.list_dags(prefix="dags: 100%", contains=name, states=["COMPLETED"], count=True).items
    assert (item.name, item.states, item.state) == (
        name,
        {JobStatus.COMPLETED: 1, JobStatus.PENDING: 1},
        JobStatus.RUNNING,
    )
    assert api.find_dag(item.name, item.run).jobs[0].job_id == dag.jobs[0].job_id
    assert item.ended_at is None
    assert item.started_at >= item.submitted_at
    dag.cancel()
    (item,) = api.list_dags(contains=name).items
    assert item.state is JobStatus.CANCELLED
    assert item.ended_at >= item.started_at
    assert api.list_dags(contains=name, states=["PENDING"]).items == ()


@pytest.mark.needs("list")
def test_artifacts_are_listed(api, unique, tmp_path):
    names = [f"{unique('art')}.bin" for _ in range(3)]
    for size, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x" * size)
        api.upload_file(str(tmp_path / name))
    found = api.list_artifacts(prefix="art-", since=time.time() - 300, order="oldest")
    assert [(i.name, i.size) for i in found.items if i.name in names] == list(
        zip(names, range(3), strict=True)
    )
    first = api.list_artifacts(contains="ART-", limit=1, count=True)
    second = api.list_artifacts(contains="ART-", limit=1, cursor=first.cursor)
    assert (first.items[0].name, second.items[0].name) == (names[2], names[1])
    assert first.total >= 3


@pytest.mark.needs("list")
def test_a_service_is_listed_while_it_lives_and_afterwards(api, unique, script):
    name = unique("svc")
    text = "import socket, time\ns = socket.create_server(('127.0.0.1', {port}))\ntime.sleep(600)"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    service = TitanJob(
        name, script(text.format(port=port)), job_type="DEPLOY_PAYLOAD", port=port, runtime=False
    )
    api.submit_job(service).wait(timeout=300)
    (item,) = api.list_services(contains=name).items
    assert item.service == "live"
    api.stop_service(name)
    assert [i.service for i in api.list_services(contains=name, count=True).items] == ["ended"]


@pytest.mark.needs("changes")
def test_changes_are_told_from_a_list_on(api, unique, job):
    name = unique("changing")
    cursor = api.list_jobs(limit=1).changes
    api.submit_job(job(name)).wait(timeout=300)
    found = {}
    deadline = time.monotonic() + 60
    while (item := found.get(f"DAG-{name}")) is None or item.state is not JobStatus.COMPLETED:
        assert time.monotonic() < deadline
        changes = api.changes(cursor, wait=5)
        assert not changes.list_again
        found |= {item.job_id: item for item in changes.jobs}
        cursor = changes.cursor
    assert item.ended_at


@pytest.mark.needs("changes")
def test_a_client_without_a_cursor_is_to_list(api):
    for cursor in (None, "another master's-5", "0123456789abcdef-0"):
        changes = api.changes(cursor, wait=20)
        assert (changes.list_again, changes.jobs, changes.removed) == (True, (), ())
    assert not api.changes(changes.cursor).list_again


@pytest.mark.needs("changes")
def test_changes_are_held_until_there_is_one(api, cluster, unique, job):
    cursor = api.changes().cursor
    name = unique("held")

    def submit():
        with TitanClient(cluster.host, cluster.port) as other:
            other.submit_job(job(name, delay=3600))

    changed = set()
    later = threading.Timer(0.3, submit)
    later.start()
    while f"DAG-{name}" not in changed:
        began = time.monotonic()
        changes = api.changes(cursor, wait=20)
        # Nothing else goes on here for long.
        assert changes.jobs or time.monotonic() - began > 1
        changed |= {item.job_id for item in changes.jobs}
        cursor = changes.cursor
    later.join()
    api.cancel_job(name)


@pytest.mark.parametrize("operation", [*LISTS, "changes"])
def test_a_master_that_cannot_list_is_named(api, capabilities, operation):
    if "list" in capabilities:
        pytest.skip("the master lists")
    with pytest.raises(NotSupported, match=f"{operation}: the .* master .*at .* has no such operation"):
        getattr(api, operation)()


@pytest.mark.needs("list")
def test_a_cursor_of_another_kind_is_refused(api):
    for cursor in ("x", "1:name", "x:1", "1:9999999999999999999"):
        with pytest.raises(RequestRefused, match="was not given by a list"):
            api.list_jobs(cursor=cursor)
