"""A reply that is lost: a question is asked again; a change is neither made twice nor said not to have been made."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sdk.cluster.master_process import MasterProcess
from tests.sdk.cluster.peer import Peer, script as job_line
from tests.support.blocking_async import BlockingAsyncClient
from tests.support.flaky_proxy import FlakyProxy
from tests.support.process_watch import wait_for
from tests.support.scripted_peer import ScriptedPeer, truncate
from titan_sdk import (
    ClientConfig,
    ConnectFailed,
    ConnectionLost,
    NotFound,
    SubmissionUnconfirmed,
    TimedOut,
    TitanClient,
    TitanJob,
    TransportError,
)
from titan_sdk.cluster import LocalCluster
from titan_sdk.config import RetryPolicy
from titan_sdk.wire import calls
from titan_sdk.wire.opcodes import Opcode

# Slow: Masters are killed and started again while clients wait.
pytestmark = pytest.mark.slow

Kind = type[TitanClient]


@pytest.fixture(params=[TitanClient, BlockingAsyncClient], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalCluster]:
    with LocalCluster() as running:
        yield running


@pytest.fixture(scope="module")
def strict() -> Iterator[LocalCluster]:
    with LocalCluster(strict_titan=True) as running:
        yield running


@pytest.fixture
def key() -> str:
    return f"lost-{uuid.uuid4().hex}"


@contextmanager
def losing(
    address: tuple[str, int], kind: Kind, request: str, between: Callable[[], object]
) -> Iterator[TitanClient]:
    """A client that loses the reply to the first request with that text; ``between`` is done before it knows."""
    with FlakyProxy(*address) as proxy, kind("127.0.0.1", proxy.port) as client:
        client.store_get("warm")
        proxy.lose, proxy.before_the_loss = request.encode(), lambda: (between(), None)[1]
        yield client
        assert (proxy.lose, proxy.broken) == (None, 1)


CHANGES: dict[str, tuple[Callable[[TitanClient, str], object], str | None, object]] = {
    "{key}|mine": (lambda client, key: client.store_put(key, "mine"), None, "OK"),
    '"key":"{key}","expected"': (lambda client, key: client.store_swap(key, None, "mine"), None, True),
    '"key":"{key}"': (lambda client, key: client.store_delete(key), "there", True),
    '"key":"{key}","seconds"': (lambda client, key: client.store_expire(key, 0.2), "there", True),
}


@pytest.mark.parametrize("request_", CHANGES)
def test_no_change_reaches_over_what_came_after_it(
    shared: LocalCluster, kind: Kind, key: str, request_: str
) -> None:
    change, before, result = CHANGES[request_]
    address = (shared.host, shared.port)
    with TitanClient(*address) as other:
        if before is not None:
            other.store_put(key, before)
        with losing(
            address, kind, request_.format(key=key), lambda: other.store_put(key, "theirs")
        ) as client:
            assert change(client, key) == result
        if "seconds" in request_:
            other.store_put(f"{key}-later", "")
            other.store_expire(f"{key}-later", 0.2)
            wait_for(lambda: other.store_get(f"{key}-later") is None)
        assert other.store_get(key) == "theirs"


def test_a_member_is_new_though_the_reply_was_lost(shared: LocalCluster, kind: Kind, key: str) -> None:
    address = (shared.host, shared.port)
    with TitanClient(*address) as other:
        with losing(address, kind, f"{key}|m", lambda: other.store_delete(key)) as client:
            assert client.store_sadd(key, "m") == 1
        assert other.store_smembers(key) == []


def test_a_file_is_not_put_over_a_later_one(
    shared: LocalCluster, kind: Kind, key: str, tmp_path: Path
) -> None:
    address, folders = (shared.host, shared.port), [tmp_path / "mine", tmp_path / "theirs"]
    for folder in folders:
        folder.mkdir()
        (folder / key).write_text(folder.name)
    with TitanClient(*address) as other:
        with losing(address, kind, f'"name":"{key}"', lambda: other.upload_file(folders[1] / key)) as client:
            assert client.upload_file(folders[0] / key).name == key
        assert other.fetch_artifact(key, tmp_path / "found").read_text() == "theirs"


def test_a_cancel_does_not_hit_the_next_job_of_that_id(
    shared: LocalCluster, kind: Kind, key: str, tmp_path: Path
) -> None:
    script = tmp_path / "job.py"
    script.write_text("print('ran')")
    waiting = TitanJob(key, str(script), delay=3_600_000, runtime=False)
    address = (shared.host, shared.port)
    again = job_line(key, "print(1)", delay=3_600_000)

    with TitanClient(*address) as other:
        other.submit_job(waiting)
        with losing(
            address, kind, f"|{int(Opcode.CANCEL_JOB)}\n", lambda: Peer(address).submit(again)
        ) as client:
            client.cancel_job(key)
        assert other.get_job_status(key) == "PENDING"
        other.cancel_job(key)


COUNTING = "import sys\nwith open(sys.argv[1], 'a') as file:\n    file.write('x')\n"


def test_a_submit_whose_reply_was_lost_is_sent_again(
    shared: LocalCluster, kind: Kind, key: str, tmp_path: Path
) -> None:
    script, runs = tmp_path / "job.py", tmp_path / "runs"
    script.write_text(COUNTING)
    address = (shared.host, shared.port)

    def finish() -> None:
        with TitanClient(*address) as other:
            other.wait_for_job(key, timeout=60)

    for runtime, job_id in ((True, key), (False, f"{key}-plain")):
        job = TitanJob(job_id, str(script), args=str(runs), runtime=runtime)
        # Its copy comes when the job is over: by then the id would be free for another submission.
        with losing(address, kind, '{"mark":', finish if runtime else lambda: None) as client:
            assert client.submit_job(job).wait(timeout=60).state == "COMPLETED"
    assert runs.read_text() == "xx"


def test_a_submit_survives_a_master_that_is_killed_after_it(tmp_path: Path, kind: Kind) -> None:
    master = MasterProcess(tmp_path / "data")
    script, runs = tmp_path / "job.py", tmp_path / "runs"
    script.write_text(COUNTING)
    try:
        address = master.start().address
        with FlakyProxy(*address) as proxy, kind("127.0.0.1", proxy.port) as client:

            def restart() -> None:
                master.kill()
                proxy.target = master.start().address

            client.server_info()
            proxy.lose, proxy.before_the_loss = b'{"mark":', restart
            job = TitanJob("killed", str(script), args=str(runs), delay=2000)
            assert client.submit_job(job).wait(timeout=60).state == "COMPLETED"
            assert (proxy.broken, runs.read_text()) == (1, "x")
    finally:
        master.close()


def test_a_submit_whose_master_is_another_one_by_then_is_in_doubt(
    shared: LocalCluster, strict: LocalCluster, kind: Kind, key: str, tmp_path: Path
) -> None:
    script = tmp_path / "job.py"
    script.write_text("pass")
    with FlakyProxy(shared.host, shared.port) as proxy, kind("127.0.0.1", proxy.port) as client:
        client.server_info()

        def move() -> None:
            proxy.target = (strict.host, strict.port)

        proxy.lose, proxy.before_the_loss = b'{"mark":', move
        with pytest.raises(SubmissionUnconfirmed, match="nobody knows whether the master took it") as told:
            client.submit_job(TitanJob(key, str(script)))
        assert told.value.outcome_unknown
        assert client.get_job_status(key) == "UNKNOWN", "it was not sent to the other one"


def test_a_service_is_stopped_once(shared: LocalCluster, kind: Kind, key: str) -> None:
    address = (shared.host, shared.port)
    with losing(address, kind, f"|{int(Opcode.STOP)}\n", lambda: None) as client, pytest.raises(NotFound):
        client.stop_service(key)


def test_a_master_that_is_killed_after_the_write_remembers_it(tmp_path: Path, kind: Kind) -> None:
    master = MasterProcess(tmp_path / "data")
    try:
        address = master.start().address
        with FlakyProxy(*address) as proxy, kind("127.0.0.1", proxy.port) as client:

            def restart() -> None:
                master.kill()
                proxy.target = master.start().address
                with TitanClient(*proxy.target) as other:
                    assert other.store_swap("k", "hello", "B")

            client.store_put("other", "x")
            proxy.lose, proxy.before_the_loss = b"hello", restart
            client.store_put("k", "hello")
            assert client.store_get("k") == "B"
    finally:
        master.close()


def test_an_upload_survives_a_master_that_is_killed_between_two_chunks(tmp_path: Path, kind: Kind) -> None:
    master = MasterProcess(tmp_path / "data")
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 4096 * 9)
    try:
        address = master.start().address
        with FlakyProxy(*address) as proxy, kind("127.0.0.1", proxy.port) as client:

            def restart() -> None:
                master.kill()
                proxy.target = master.start().address

            for part in ('"offset":4194304', '"offset":8388608'):  # the second of three, the last
                proxy.lose, proxy.before_the_loss = part.encode(), restart
                client.upload_file(large)
                assert client.fetch_artifact("large", tmp_path / "found").read_bytes() == large.read_bytes()
            assert proxy.broken == 2
    finally:
        master.close()


def test_a_real_titan_is_not_sent_a_change_twice(strict: LocalCluster, kind: Kind, key: str) -> None:
    address = (strict.host, strict.port)
    with TitanClient(*address) as other:
        with losing(address, kind, f"{key}|mine", lambda: other.store_put(key, "theirs")) as client:
            with pytest.raises(ConnectionLost, match="the request may have taken effect") as told:
                client.store_put(key, "mine")
            assert told.value.outcome_unknown
        assert other.store_get(key) == "theirs"


# ---------------------------------------------------------------------- what is said


def silent(connection: socket.socket, peer: ScriptedPeer) -> None:
    """Answers nothing until the client has gone."""
    peer.read_request(connection)
    connection.recv(1)


def plain(kind: Kind, port: int, **more: object) -> TitanClient:
    return kind(config=ClientConfig("127.0.0.1", port, keep_alive=False, **more))


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_question_takes_no_effect(kind: Kind, attempts: int) -> None:
    acts = [truncate("RUNNING", 3)] * attempts
    with (
        ScriptedPeer(*acts) as peer,
        plain(kind, peer.port, retry=RetryPolicy(attempts)) as client,
        pytest.raises(ConnectionLost) as told,
    ):
        client.get_job_status("x")
    assert not told.value.outcome_unknown
    assert "effect" not in str(told.value)
    assert len(peer.requests) == attempts


def test_a_question_without_an_answer_takes_no_effect(kind: Kind) -> None:
    with (
        ScriptedPeer(silent) as peer,
        plain(kind, peer.port, timeout=0.2) as client,
        pytest.raises(TimedOut) as told,
    ):
        client.store_get("x")
    assert not told.value.outcome_unknown
    assert "effect" not in str(told.value)


def test_a_change_without_an_answer_may_have_taken_effect(kind: Kind) -> None:
    with (
        ScriptedPeer(silent) as peer,
        plain(kind, peer.port, timeout=0.2) as client,
        pytest.raises(TimedOut, match="may have taken effect") as told,
    ):
        client.stop_service("x")
    assert told.value.outcome_unknown


def test_a_master_that_is_gone_after_a_lost_reply_leaves_the_doubt(kind: Kind) -> None:
    """The second try finds nobody: that says nothing about the first."""
    with (
        ScriptedPeer(truncate("CANCELLED", 2)) as peer,
        plain(kind, peer.port) as client,
        pytest.raises(TransportError, match=r"may have taken effect.*at last: .*cannot connect") as told,
    ):
        client._ask(calls.cancel_job("x"))
    assert not isinstance(told.value, ConnectFailed)
    assert told.value.outcome_unknown
