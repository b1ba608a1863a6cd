"""Services: deployed when their port answers, stopped on demand."""

from __future__ import annotations

import re
import socket
import sys
import time
import urllib.request

import pytest

from titan_sdk import InvalidJob, JobStatus, NotFound, TitanJob

SERVER = """
import http.server
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")
http.server.HTTPServer(("127.0.0.1", {port}), Hello).serve_forever()
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_service_is_deployed_answers_and_stops(api, unique, script, port):
    source = script(SERVER.format(port=port), "server.py")
    handle = api.submit_job(TitanJob(unique("service"), source, job_type="SERVICE", port=port))
    try:
        assert handle.wait(timeout=300).state is JobStatus.COMPLETED
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as reply:
            assert reply.read() == b"hello"
        if api.server_info().kind == "bundled":
            # A real master forgets it in its statistics when the worker registers again, every 30 s.
            services = {service for worker in api.cluster_stats().workers for service in worker.services}
            assert handle.full_id in services
    finally:
        stopped = api.stop_service(handle.job_id)
    assert "STOPPED" in stopped
    # A real master answers before the process is gone.
    deadline = time.monotonic() + 240
    while is_open(port):
        assert time.monotonic() < deadline


def test_a_cancel_ends_a_service_that_runs(api, unique, script, port):
    source = script(SERVER.format(port=port), "server.py")
    handle = api.submit_job(TitanJob(unique("service"), source, job_type="SERVICE", port=port))
    handle.wait(timeout=300)
    assert is_open(port)
    assert handle.cancel() is JobStatus.CANCELLED
    deadline = time.monotonic() + 240
    while is_open(port):
        assert time.monotonic() < deadline
    # Nothing is left to end, so the answer is the state: a real master's own word stays COMPLETED.
    assert handle.cancel() in {JobStatus.COMPLETED, JobStatus.CANCELLED}


def test_stopping_what_does_not_run_is_not_found(api, unique):
    with pytest.raises(NotFound, match="no such running service"):
        api.stop_service(unique("nothing"))


def test_a_service_needs_its_port(script):
    with pytest.raises(
        InvalidJob, match="port 0 is not a port; a service needs the port its script listens on"
    ):
        TitanJob("svc", script("pass"), job_type="SERVICE")


def test_a_service_takes_no_arguments(script):
    with pytest.raises(InvalidJob, match="Titan starts services without arguments"):
        TitanJob("svc", script("pass"), job_type="SERVICE", port=8000, args="x")


@pytest.mark.needs("strict_submit")
@pytest.mark.parametrize("name", ["serve.sh", "serve", "serve.py"])
def test_the_first_line_of_a_service_decides(api, unique, script, port, name):
    server = script(SERVER.format(port=port), "server.txt")
    source = script(f'#!/bin/bash -e\necho "options $-"\nexec {sys.executable} {server}\n', name)
    handle = api.submit_job(TitanJob(unique("service"), source, job_type="SERVICE", port=port))
    try:
        assert handle.wait(timeout=300).state is JobStatus.COMPLETED
        # From a node of a Ray cluster the output comes a moment later.
        deadline = time.monotonic() + 240
        while not re.search("options .*e", handle.logs()):
            assert time.monotonic() < deadline
    finally:
        api.stop_service(handle.job_id)


def test_a_service_that_a_real_titan_cannot_start_is_refused(api, unique, script, port, capabilities):
    if "strict_submit" in capabilities:
        pytest.skip("this master starts it")
    job = TitanJob(unique("service"), script("#!/bin/bash\n", "serve.sh"), job_type="SERVICE", port=port)
    with pytest.raises(InvalidJob, match=r"does not end in \.py; a real Titan starts no other"):
        api.submit_job(job)
