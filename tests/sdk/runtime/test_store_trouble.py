"""A master or store that fails: nothing starts unconfirmed, nothing that runs is hurt, nothing is lost quietly."""

from __future__ import annotations

import re
import socket

from tests.support.runtime_bench import Bench
from titan_sdk.runtime import keys


def test_an_unreachable_master_starts_nothing_and_says_what_to_set(bench: Bench) -> None:
    bench.run(bench.spec("pass"))  # the bundle is in the cache now
    spec = bench.spec("open('ran', 'w')")
    with bench.store.away():
        done = bench.run(spec, TITAN_RUNTIME_START_PATIENCE="0.3")
    assert done.code == 97
    assert f"127.0.0.1:{bench.store.port}" in done.text
    assert "The job's code was not started" in done.text
    assert "worker_address" in done.text
    assert not (bench.shared / "ran").exists()


def test_an_unreachable_master_on_a_worker_without_the_bundle(bench: Bench, tmp_path: object) -> None:
    spec = bench.spec("open('ran', 'w')")
    with bench.store.away():
        done = bench.run(spec, TITAN_RUNTIME_START_PATIENCE="0.3", TITAN_RUNTIME_CACHE=f"{tmp_path}/cold")
    assert done.code == 97
    assert f"cannot reach the Titan master at 127.0.0.1:{bench.store.port}" in done.text
    assert "worker_address" in done.text
    assert not (bench.shared / "ran").exists()


def test_something_else_on_the_port_is_recognised(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:
        running = bench.start(bench.spec("pass", port=web.getsockname()[1]), TITAN_RUNTIME_START_PATIENCE="0")
        connection, _ = web.accept()
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.close()
        done = running.wait()
    assert done.code == 97
    assert "does not speak Titan v1" in done.text


def test_a_store_that_is_down_behind_a_master_starts_nothing(bench: Bench) -> None:
    """A real master then answers OK to every write and NULL to every read."""
    bench.store.store_down = True
    done = bench.run(bench.spec("open('ran', 'w')"), TITAN_RUNTIME_START_PATIENCE="0.3")
    assert done.code == 97
    assert "does not keep what is written to it" in done.text
    assert not (bench.shared / "ran").exists()


def test_a_master_that_comes_back_in_time_is_waited_for(bench: Bench) -> None:
    spec = bench.spec("print('ran')")
    bench.run(bench.spec("pass"))
    bench.store.close()
    running = bench.start(spec, TITAN_RUNTIME_START_PATIENCE="20")
    bench.store.open()
    assert running.wait().text == "ran\n"


def test_a_master_away_while_the_job_runs_costs_nothing(bench: Bench) -> None:
    first, second = bench.fifo("one"), bench.fifo("two")
    source = f"print('before')\nopen({str(first)!r}).read()\nfor i in range(2000): print('during', i)\nopen({str(second)!r}).read()\nprint('after')\nimport titan_job\ntitan_job.result('kept')"
    spec = bench.spec(source)
    running = bench.start(spec, TITAN_RUNTIME_HEARTBEAT="0.1")
    bench.store.wait_until(lambda: keys.log_key(spec.job_id, spec.nonce, 0) in bench.store.values)
    with bench.store.away():
        first.open("w").close()
        second.open("w").close()
    done = running.wait()
    assert done.code == 0
    assert bench.log(spec) == done.text
    assert bench.result(spec) == "kept"


def test_output_written_to_a_store_that_was_down_is_sent_again(bench: Bench) -> None:
    """The master says OK to a lost chunk; only reading it back tells."""
    fifo = bench.fifo()
    spec = bench.spec(f"open({str(fifo)!r}).read()\nprint('line')\nopen({str(fifo)!r}).read()")
    running = bench.start(spec)
    bench.store.wait_until(lambda: bench.has_state(spec, "running"))
    bench.store.store_down = True
    fifo.open("w").close()
    chunk = keys.log_key(spec.job_id, spec.nonce, 0)
    bench.store.wait_until(lambda: (0x60, chunk) in bench.store.requests)
    bench.store.store_down = False
    fifo.open("w").close()
    assert running.wait().code == 0
    assert bench.log(spec) == "line\n"


def test_an_end_that_cannot_be_recorded_fails_loudly(bench: Bench) -> None:
    fifo = bench.fifo()
    spec = bench.spec(f"print('worked')\nopen({str(fifo)!r}).read()")
    running = bench.start(spec, TITAN_RUNTIME_END_PATIENCE="0.3")
    bench.store.wait_until(lambda: bench.has_state(spec, "running"))
    with bench.store.away():
        fifo.open("w").close()
        done = running.wait()
    assert done.code == 97
    assert done.text.startswith("worked\n")
    assert re.search(
        r"the job ended with exit code 0, but the master at \S+ did not take its record", done.text
    )


def test_a_hundred_thousand_lines_arrive_complete_and_in_order(bench: Bench) -> None:
    spec = bench.spec("import sys\nfor i in range(100_000): sys.stdout.write('line %d é\\n' % i)")
    done = bench.run(spec)
    assert done.code == 0
    assert done.text == "".join(f"line {i} é\n" for i in range(100_000))
    assert bench.log(spec) == done.text
    values = [value for key, value in bench.store.values.items() if ":log:" in key]
    assert all(value.isascii() and len(value) < 1_000_000 for value in values)


def test_a_line_without_end_is_shipped_in_pieces(bench: Bench) -> None:
    spec = bench.spec("import sys\nsys.stdout.write('é' * 500_000)")
    done = bench.run(spec)
    assert bench.log(spec) == done.text == "é" * 500_000


def test_output_appears_in_the_store_while_the_job_runs(bench: Bench) -> None:
    fifo = bench.fifo()
    spec = bench.spec(f"print('early')\nopen({str(fifo)!r}).read()")
    running = bench.start(spec)
    bench.store.wait_until(lambda: keys.log_key(spec.job_id, spec.nonce, 0) in bench.store.values)
    assert running.process.poll() is None
    fifo.open("w").close()
    running.wait()


def test_a_worker_that_stops_listening_does_not_end_the_job(bench: Bench) -> None:
    fifo = bench.fifo()
    spec = bench.spec(f"print('one')\nopen({str(fifo)!r}).read()\nprint('two')")
    running = bench.start(spec)
    assert running.process.stdout is not None
    running.process.stdout.close()
    fifo.open("w").close()
    with running.process as process:
        assert process.wait(20) == 0
    assert bench.log(spec) == "one\ntwo\n"
