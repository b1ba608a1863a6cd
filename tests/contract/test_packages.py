"""Packages that a job brings, on every master and by both clients."""

from __future__ import annotations

import uuid

import pytest

from tests.support.wheels import make_wheel, served
from titan_sdk import JobFailed, TitanJob

SHOWS = "import demo, titan_job\ntitan_job.result(demo.VERSION)\n"


@pytest.fixture
def index(tmp_path):
    """Lines that make a worker ask nobody but this test; each has packages that no other one has."""
    folder = tmp_path / "wheels"
    make_wheel(folder, "demo", f"1.0+{uuid.uuid4().hex[:8]}")
    with served(folder) as url:
        yield ["--no-index", f"--find-links {url}"]


def test_a_job_brings_its_packages(api, unique, index, tmp_path):
    first = api.submit_job(TitanJob(unique("packages"), source=SHOWS, requirements=[*index, "demo>=1"]))
    report = first.wait(timeout=300)
    assert report.result.startswith("1.0+")
    assert report.environment_seconds is not None
    log = api.fetch_logs(first.job_id)
    assert "titan-runtime: building its environment " in log
    assert "was built in" in log

    (tmp_path / "requirements.txt").write_text("# the same\n" + "\n".join([*index, "Demo >= 1"]))
    again = TitanJob(unique("packages"), source=SHOWS, requirements=tmp_path / "requirements.txt")
    handle = api.submit_job(again)
    assert handle.wait(timeout=300).result == report.result
    # Another worker than the first one's machine may have had to build it, too.
    assert "its environment" in api.fetch_logs(handle.job_id)


def test_a_script_says_itself_what_it_needs(api, unique, index):
    block = f"# /// script\n# dependencies = {[*index, 'demo']!r}\n# ///\n"
    handle = api.submit_job(TitanJob(unique("block"), source=block + SHOWS))
    assert handle.wait(timeout=300).result.startswith("1.0+")


def test_what_cannot_be_installed_ends_the_job_before_its_code(api, unique, index):
    job = TitanJob(unique("broken"), source="print('never')", requirements=[*index, "demo>=99"])
    with pytest.raises(JobFailed, match="its environment could not be built") as failed:
        api.submit_job(job).wait(timeout=300)
    report = failed.value.report
    assert report.exit_code == 96
    assert report.started_at is None
    assert "demo>=99" in report.reason
    assert "never" not in report.log_tail
