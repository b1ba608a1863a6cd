"""What the launcher saves itself on a master that can be trusted, and that nothing is lost by it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.flaky_proxy import FlakyProxy
from tests.support.runtime_bench import Bench, Running, Watch, again
from titan_sdk import TitanClient
from titan_sdk.cluster import LocalCluster
from titan_sdk.runtime import keys, reader
from titan_sdk.runtime.spec import RunSpec

COUNT = "import os\nfd = os.open('runs', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\nos.write(fd, b'x')\nprint('run')\n"
TRUSTING = {"TITAN_KEEP_ALIVE": "1"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster({"GENERAL": 1}) as running:
        yield running


@pytest.fixture
def proxy(cluster: LocalCluster) -> Iterator[FlakyProxy]:
    with FlakyProxy(cluster.host, cluster.port) as between:
        yield between


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[TitanClient]:
    with TitanClient(cluster.host, cluster.port) as connected:
        yield connected


def state(client: TitanClient, spec: RunSpec) -> reader.RunState:
    text = client.store_get(keys.state_key(spec.job_id, spec.nonce))
    assert text is not None
    return reader.parse_state(text)


def keys_of(client: TitanClient, spec: RunSpec) -> list[str]:
    prefix = keys.state_key(spec.job_id, spec.nonce).removesuffix("state")
    return [key.removeprefix(prefix) for key in client.store_keys(prefix)]


def runs(bench: Bench) -> int:
    return len((bench.shared / "runs").read_bytes())


@pytest.mark.parametrize("lost", [b'"expected":null', b"succeeded"], ids=["claim", "end"])
def test_a_repeat_after_a_lost_reply_knows_its_own_record(
    bench: Bench, proxy: FlakyProxy, client: TitanClient, lost: bytes
) -> None:
    spec = bench.spec(COUNT, port=proxy.port)
    proxy.lose = lost
    done = bench.run(spec, **TRUSTING)
    assert (done.code, done.text, proxy.broken) == (0, "run\n", 1)
    assert (runs(bench), state(client, spec).state, state(client, spec).attempt) == (1, "succeeded", 1)


def test_stdout_is_the_log_and_a_small_result_is_in_the_record(
    bench: Bench, proxy: FlakyProxy, client: TitanClient
) -> None:
    spec = bench.spec("import titan_job\nprint('é', end='')\ntitan_job.result(['é'])", port=proxy.port)
    assert bench.run(spec, **TRUSTING).text == "é"
    found = state(client, spec)
    assert (found.logs_to_master, found.log_chunks) == (True, 0)
    assert found.result is not None
    assert found.result.text is not None
    assert reader.load_result(found.result, found.result.text) == ["é"]
    assert keys_of(client, spec) == ["state"]


def test_a_larger_result_is_in_slices(bench: Bench, proxy: FlakyProxy, client: TitanClient) -> None:
    spec = bench.spec("import titan_job\ntitan_job.result('x' * 100000)", port=proxy.port)
    assert bench.run(spec, **TRUSTING).code == 0
    info = state(client, spec).result
    assert info is not None
    assert keys_of(client, spec) == ["result:0", "state"]
    piece = client.store_get(keys.result_key(spec.job_id, spec.nonce, 0))
    assert piece is not None
    assert reader.join_result(info, [piece]) == "x" * 100000


def test_a_log_stops_one_byte_beyond_its_limit(bench: Bench, proxy: FlakyProxy) -> None:
    spec = bench.spec("for _ in range(100): print('x' * 99, flush=True)", port=proxy.port)
    done = bench.run(spec, TITAN_RUNTIME_LOG_LIMIT="1000", **TRUSTING)
    assert (done.code, len(done.output)) == (0, 1001)
    assert (
        len(bench.run(again(spec, nonce="0" * 16), TITAN_RUNTIME_LOG_LIMIT="0", **TRUSTING).output) == 10_000
    )


def test_why_a_job_failed_begins_a_line_of_its_log(bench: Bench, proxy: FlakyProxy) -> None:
    spec = bench.spec(
        "import os, signal\nprint('half', end='', flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)",
        port=proxy.port,
        max_attempts=2,
    )
    first, *later = (bench.run(spec, **TRUSTING) for _ in range(3))
    assert first.text.startswith("half\ntitan-runtime: it was ended by SIGSEGV")
    assert [done.code for done in (first, *later)] == [139, 139, 98]
    assert later[1].text == "", "the log of a job that is over gets no word more"


def _started(bench: Bench, spec: RunSpec, **environment: str) -> Running:
    """Until its code has written to the pipe."""
    fifo = bench.fifo()
    running = bench.start(spec, **TRUSTING, **environment)
    fifo.read_bytes()
    return running


WAITING = COUNT + "print('held', flush=True)\nopen('fifo', 'w').close()\nimport time\ntime.sleep(600)\n"


def test_a_second_copy_waits_for_the_first_ones_end(
    bench: Bench, proxy: FlakyProxy, client: TitanClient
) -> None:
    spec = bench.spec(WAITING, port=proxy.port)
    first = _started(bench, spec)
    second = bench.start(spec, **TRUSTING)
    assert second.process.stdout is not None
    assert second.process.stdout.readline() == (
        b"titan-runtime: attempt 1 is recorded as running on %s; waiting for its end\n"
        % os.uname().nodename.encode()
    )
    first.process.terminate()
    assert first.wait().code == 143
    assert second.wait().code == 98
    assert (runs(bench), state(client, spec).signal) == (1, "SIGTERM")


def test_a_copy_whose_record_was_taken_over_ends_its_job(
    bench: Bench, proxy: FlakyProxy, client: TitanClient
) -> None:
    spec = bench.spec(WAITING, port=proxy.port)
    running = _started(bench, spec, TITAN_RUNTIME_HEARTBEAT="0.1")
    key = keys.state_key(spec.job_id, spec.nonce)
    while True:
        text = client.store_get(key)
        assert text is not None
        theirs = json.dumps({**json.loads(text), "token": "theirs"})
        if client.store_swap(key, text, theirs):
            break
    done = running.wait()
    assert (done.code, client.store_get(key)) == (98, theirs)
    assert "another copy of this job has taken over" in done.text


def test_an_attempt_that_was_lost_is_said_in_the_log(
    bench: Bench, proxy: FlakyProxy, client: TitanClient
) -> None:
    spec = bench.spec(COUNT, port=proxy.port, max_attempts=2)
    assert bench.run(again(spec, max_attempts=1), **TRUSTING).code == 0
    key = keys.state_key(spec.job_id, spec.nonce)
    text = client.store_get(key)
    assert text is not None
    client.store_put(key, json.dumps({**json.loads(text), "state": "running", "host": "elsewhere"}))
    done = bench.run(spec, TITAN_RUNTIME_LEASE="1", **TRUSTING)
    assert "attempt 1 was lost: its launcher on elsewhere ended without a word" in done.text
    assert done.text.endswith("\nrun\n")
    assert (runs(bench), state(client, spec).attempt) == (2, 2)


def test_a_launcher_that_is_killed_leaves_its_jobs_last_words(
    bench: Bench, proxy: FlakyProxy, client: TitanClient
) -> None:
    source = (
        COUNT + "import signal, sys, time\n"
        "def end(*_):\n    print('last words', flush=True)\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\nopen('fifo', 'w').close()\ntime.sleep(600)\n"
    )
    spec = bench.spec(source, port=proxy.port)
    running = _started(bench, spec)
    watch = Watch(running.pid)
    os.kill(running.pid, signal.SIGKILL)
    assert watch.has_ended()
    watch.close()
    done = running.wait()  # the guard holds the output until all is said
    assert done.text.endswith("last words\n")
    assert (state(client, spec).state, state(client, spec).signal) == ("failed", "SIGKILL")


def test_a_job_that_cannot_be_put_in_place_uses_no_attempt_up(
    bench: Bench, proxy: FlakyProxy, client: TitanClient
) -> None:
    spec = bench.spec("#!/nowhere/at-all\n", name="job", port=proxy.port)
    assert bench.run(spec, **TRUSTING).code == 98
    found = state(client, spec)
    assert (found.state, found.attempt) == ("failed", 0)
    assert "/nowhere/at-all" in (found.reason or "")


def test_chunks_of_an_earlier_attempt_are_followed_by_chunks(
    bench: Bench, proxy: FlakyProxy, client: TitanClient
) -> None:
    """As when a master was replaced by a later version between the two."""
    spec = bench.spec(COUNT + "raise SystemExit(1)", port=proxy.port, max_attempts=2)
    assert bench.run(spec).code == 1
    assert bench.run(spec, **TRUSTING).code == 1
    found = state(client, spec)
    assert (found.logs_to_master, found.attempt, found.log_chunks) == (False, 2, 2)
    assert client.fetch_logs(spec.job_id, nonce=spec.nonce) == "run\nrun\n"
