"""Hazards 10 to 13: values, sets, and a store that may be away."""

from __future__ import annotations

import uuid

import pytest

from titan_sdk import NotFound, StoreUnavailable, WaitTimedOut

TEXTS = [
    "héllo",
    "日本語+OK\r\n",
    "日本語:1\r\n",
    "🚀",
    "NULL",
    "ERROR: no",
    "UNKNOWN",
    "SERVER_ERROR",
    "",
    "a|b,c;d\n",
]


@pytest.fixture
def key() -> str:
    return f"hazard-{uuid.uuid4().hex}"


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_10_11_any_text_survives_and_hurts_nobody(client, key, text):
    client.store_put(key + "-other", "mine")
    for name in (key, key + "é"):
        client.store_put(name, text)
        assert client.store_get(name) == text
        assert client.store_get(key + "-other") == "mine"


@pytest.mark.needs("hazards")
def test_10_the_master_corrupts_what_is_written_without_the_sdk(peer, key):
    peer.ask(0x60, f"{key}|日本語")
    assert peer.ask(0x61, key).text == "日"
    assert peer.ask(0x61, "anything").text == "NULL"  # the next request of anybody takes the blow


def test_10_results_and_logs_of_any_text_survive(client, job):
    handle = client.submit_job(job("import titan_job; print('日本語+OK'); titan_job.result('🚀é')"))
    assert handle.wait(timeout=300).result == "🚀é"
    assert handle.logs() == "日本語+OK\n"


@pytest.mark.needs("master_control")
def test_12_a_job_is_not_started_that_could_not_keep_its_record(own, own_client, job, tmp_path):
    ran = tmp_path / "ran"
    handle = own_client.submit_job(job(f"open({str(ran)!r}, 'w')", delay=3000))
    own.strict.stop_store()
    with pytest.raises(WaitTimedOut):
        handle.wait(timeout=5)  # by now the master has started it
    assert not ran.exists()
    own.strict.start_store()
    handle.wait(timeout=300)
    assert ran.exists()


def test_13_sadd_tells_new_from_old(client, key):
    assert [client.store_sadd(key, member) for member in ("a", "b,c", "", "a", "b,c", "")] == [
        1,
        1,
        1,
        0,
        0,
        0,
    ]
    assert client.store_smembers(key) == ["", "a", "b,c"]


def put(client, key, path):
    client.store_put(key, "value")


def put_large(client, key, path):
    client.store_put(key, "x" * 11_000_000)


def add(client, key, path):
    client.store_sadd(key, "member")


def publish(client, key, path):
    client.publish_artifact(key, path)


@pytest.mark.needs("master_control")
@pytest.mark.parametrize("write", [put, put_large, add, publish])
def test_12_a_write_that_the_store_did_not_keep_is_no_success(own, own_client, key, tmp_path, write):
    path = tmp_path / "file"
    path.write_text("content")
    own.strict.stop_store()
    with pytest.raises(StoreUnavailable, match=r"the store behind the master does not keep .*`titan doctor`"):
        write(own_client, key, path)
    own.strict.start_store()
    own_client.store_get(key)  # the master connects again
    write(own_client, key, path)


@pytest.mark.needs("master_control")
def test_12_a_write_that_a_restart_of_the_store_swallowed_is_no_success(own, own_client, key):
    own_client.store_put(key, "old")
    own.strict.stop_store()
    own.strict.start_store()
    with pytest.raises(StoreUnavailable, match="another value reads back") as told:
        own_client.store_put(key, "new")
    assert told.value.outcome_unknown
    assert own_client.store_get(key) == "old"
    own_client.store_put(key, "new")
    assert own_client.store_get(key) == "new"


@pytest.mark.needs("master_control")
def test_12_what_is_published_is_not_called_missing_while_the_store_is_away(own, own_client, key, tmp_path):
    path = tmp_path / "file"
    path.write_text("content")
    own_client.publish_artifact(key, path)
    own.strict.stop_store()
    with pytest.raises(StoreUnavailable, match=f"get_artifact: .* published under {key!r}"):
        own_client.get_artifact(key, tmp_path / "copy")
    own.strict.start_store()
    own_client.store_get(key)  # the master connects again
    assert own_client.get_artifact(key, tmp_path / "copy").read_text() == "content"
    with pytest.raises(NotFound):
        own_client.get_artifact(f"{key}-other")
