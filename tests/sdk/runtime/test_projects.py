"""Archive jobs: the launcher fetches the zip by its name, unpacks it safely, and runs the entry in its own folder."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from dataclasses import replace

import pytest

from tests.support.runtime_bench import Bench
from titan_sdk import InvalidJob
from titan_sdk.runtime.spec import Project, RunSpec, Script
from titan_sdk.runtime.worker import limits, project

SOURCE = "import os, sys, titan_job\nimport near\ntitan_job.result([near.X, os.path.basename(os.getcwd()), sys.argv[1:]])"


def packed(*members: tuple[str | zipfile.ZipInfo, bytes | str]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


PROJECT = packed(("src/main.py", SOURCE), ("src/near.py", "X = 'near'"), ("empty/", ""), ("top.txt", "t"))


def spec_for(bench: Bench, pointer: str = "p.zip/src/main.py", **fields: object) -> RunSpec:
    return replace(bench.spec("", **fields), script=Script.in_archive(pointer))


def test_the_entry_runs_in_its_own_folder(bench: Bench) -> None:
    bench.store.assets["p.zip"] = PROJECT
    spec = spec_for(bench, argv=("a b", ""))
    assert bench.run(spec).code == 0
    assert bench.result(spec) == ["near", "src", ["a b", ""]]
    assert bench.leftovers() == []


def test_a_zip_that_is_being_overwritten_is_fetched_again(bench: Bench) -> None:
    bench.store.assets["p.zip"] = PROJECT
    bench.store.asset_replies = [PROJECT[: len(PROJECT) // 2], b""]
    spec = spec_for(bench)
    assert bench.run(spec).code == 0


@pytest.mark.parametrize(
    ("pointer", "content", "sentence"),
    [
        ("p.zip/gone.py", PROJECT, "the archive 'p.zip' has no file 'gone.py'"),
        ("p.zip/src", PROJECT, "the archive 'p.zip' has no file 'src'"),
        ("other.zip/a.py", PROJECT, "has no uploaded file 'other.zip'"),
        ("p.zip/a.py", packed(("../a.py", "")), "its member '../a.py' lies outside of it"),
        ("p.zip/a.py", packed(("/etc/a.py", "")), "its member '/etc/a.py' lies outside of it"),
        ("p.zip/a.py", packed(("b\\..\\..\\a.py", "")), "lies outside of it"),
    ],
)
def test_what_cannot_be_unpacked_uses_no_attempt_up_and_says_why(
    bench: Bench, pointer: str, content: bytes, sentence: str
) -> None:
    bench.store.assets["p.zip"] = content
    spec = spec_for(bench, pointer)
    done = bench.run(spec)
    assert done.code == 98
    assert sentence in done.text
    state = bench.state(spec)
    assert (state.attempt, state.state) == (0, "failed")
    assert sentence in (state.reason or "")
    assert bench.leftovers() == []


def test_what_stays_broken_is_given_up(bench: Bench) -> None:
    bench.store.assets["p.zip"] = b"no zip at all"
    done = bench.run(spec_for(bench), TITAN_RUNTIME_START_PATIENCE="0.2")
    assert done.code == 97
    assert "is not a whole zip (13 bytes)" in done.text


def test_a_program_in_an_archive_is_executed(bench: Bench) -> None:
    bench.store.assets["p.zip"] = packed(("tool", "#!/bin/sh\necho tool $1"))
    done = bench.run(spec_for(bench, "p.zip/tool", argv=("x",)))
    assert (done.code, done.text) == (0, "tool x\n")


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def damaged() -> bytes:
    data = bytearray(packed(("a.py", "0123456789" * 10)))
    data[50] ^= 0xFF
    return bytes(data)


def deflated_and_damaged() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", "0123456789" * 100)
    data = bytearray(target.getvalue())
    data[36] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (packed((link("l"), "/etc/passwd")), "its member 'l' is a link or a device"),
        (damaged(), "Bad CRC-32"),
        (deflated_and_damaged(), "the archive 'p.zip'"),
        (b"PK\x05\x06", "cannot be unpacked"),
        (packed(("a", bytes(2000))), "it unpacks to more than 1000 bytes"),
        (packed(*((str(i), "") for i in range(6))), "it has more than 5 members"),
    ],
)
def test_hostile_and_damaged_zips_are_refused(tmp_path, monkeypatch, content: bytes, problem: str) -> None:
    monkeypatch.setattr(limits, "PROJECT_SIZE", 1000)
    monkeypatch.setattr(limits, "PROJECT_FILES", 5)
    with pytest.raises(ValueError, match=problem):
        project.unpack(io.BytesIO(content), bytes(tmp_path / "p"), "p.zip")


def test_members_keep_their_executable_bit(tmp_path) -> None:
    entry = zipfile.ZipInfo("run")
    entry.external_attr = 0o755 << 16
    project.unpack(io.BytesIO(packed((entry, "x"), ("plain", "y"))), bytes(tmp_path / "p"), "p.zip")
    assert (tmp_path / "p" / "run").stat().st_mode & 0o100
    assert not (tmp_path / "p" / "plain").stat().st_mode & 0o100


def test_a_large_output_reaches_the_store_whole_and_the_worker_in_part(bench: Bench) -> None:
    """The worker's report of a job carries its output, and one over the packet limit would never arrive."""
    spec = bench.spec("for i in range(120_000): print('%099d' % i)")
    done = bench.run(spec)
    assert done.code == 0
    assert limits.TEE <= len(done.output) < limits.TEE + 1000
    assert "the worker's log ends here" in done.text
    assert bench.log(spec) == "".join(f"{i:099d}\n" for i in range(120_000))


def test_a_result_of_the_largest_size_travels_in_slices(bench: Bench) -> None:
    spec = bench.spec("import titan_job\ntitan_job.result('x' * (64 * 1024 * 1024 - 2))")
    assert bench.run(spec).code == 0
    info = bench.state(spec).result
    assert info is not None
    assert (info.bytes, info.chunks) == (64 * 1024 * 1024, 16)
    assert bench.result(spec) == "x" * (64 * 1024 * 1024 - 2)


def test_an_entry_that_is_no_file_name_is_refused_before_sending(bench: Bench) -> None:
    with pytest.raises(InvalidJob, match="is not the base name of a file"):
        spec_for(bench, "p.zip/..")


def in_project(bench: Bench, content: bytes, **fields: object) -> RunSpec:
    digest = hashlib.sha256(content).hexdigest()
    script = Script.in_project(str(fields.pop("entry", "src/main.py")))
    return replace(bench.spec("", **fields), script=script, project=Project("p.zip", digest, len(content)))


def test_a_project_runs_in_its_root_and_leaves_nothing(bench: Bench) -> None:
    bench.store.assets["p.zip"] = PROJECT
    spec = in_project(bench, PROJECT, argv=("a b", ""))
    assert bench.run(spec).code == 0
    assert bench.result(spec) == ["near", "project", ["a b", ""]]
    assert bench.leftovers() == []


def test_the_project_of_a_job_is_not_that_of_the_jobs_that_it_starts(bench: Bench) -> None:
    spec = bench.spec("import os, titan_job; titan_job.result(os.environ.get('TITAN_PROJECT_DIR'))")
    assert bench.run(spec, TITAN_PROJECT_DIR="/elsewhere").code == 0
    assert bench.result(spec) is None


@pytest.mark.parametrize(
    ("content", "held", "entry", "sentence"),
    [
        (PROJECT, PROJECT[:-1], "src/main.py", "does not hold asset p.zip intact"),
        (PROJECT, None, "src/main.py", "does not hold asset p.zip intact"),
        (PROJECT, PROJECT, "gone.py", "the archive 'p.zip' has no file 'gone.py'"),
        (b"no zip", b"no zip", "main.py", "the archive 'p.zip' cannot be unpacked"),
    ],
)
def test_a_project_that_is_not_what_was_submitted_runs_nothing(
    bench: Bench, content: bytes, held: bytes | None, entry: str, sentence: str
) -> None:
    if held is not None:
        bench.store.assets["p.zip"] = held
    spec = in_project(bench, content, entry=entry)
    done = bench.run(spec, TITAN_RUNTIME_START_PATIENCE="0.2")
    assert (done.code, bench.leftovers()) == (97 if held != content else 98, [])
    assert sentence in done.text
