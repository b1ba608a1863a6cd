"""The launcher's parts that need no process: chunks, spool, JSON, reports, and what its start may import."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from titan_sdk.runtime.worker import c_modules, limits, outcome, processes
from titan_sdk.runtime.worker.chunks import Chunker
from titan_sdk.runtime.worker.spool import Spool

WORKER = Path(c_modules.__file__).parent


@given(st.lists(st.binary(max_size=30)))
def test_chunks_joined_are_the_output_decoded_as_a_whole(pieces: list[bytes]) -> None:
    chunker = Chunker()
    parts = [chunker.next(piece, final=False) for piece in pieces] + [chunker.next(b"", final=True)]
    assert "".join(parts) == b"".join(pieces).decode("utf-8", "replace")


def test_chunks_end_with_lines_where_they_can() -> None:
    chunker = Chunker()
    assert chunker.next(b"one\ntwo", final=False) == "one\n"
    assert chunker.next(b" and more", final=False) == ""
    assert chunker.next(b"\nthree", final=False) == "two and more\n"
    assert chunker.next(b"", final=True) == "three"


def test_progress_bars_are_cut_at_carriage_returns_but_never_inside_a_line_end() -> None:
    chunker = Chunker()
    assert chunker.next(b"10%\r20%\r", final=False) == "10%\r"
    assert chunker.next(b"\n", final=False) == "20%\r\n"


def test_a_long_line_is_not_held_back_for_ever() -> None:
    assert len(Chunker().next(b"x" * (limits.LINE + 1), final=False)) == limits.LINE + 1


@given(
    st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.integers(min_value=1, max_value=50))),
)
def test_the_spool_keeps_everything_in_order(steps: list[bytes | int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SPOOL_MEMORY", 64)
        spool = Spool(f"/tmp/titan-test-spool-{os.getpid()}")
        put, taken = b"", b""
        for step in steps:
            if isinstance(step, bytes):
                spool.put(step)
                put += step
            else:
                taken += spool.take(step)
            assert spool.size == len(put) - len(taken)
        while piece := spool.take(7):
            taken += piece
        assert taken == put
        assert spool.dropped == 0


def test_a_spool_without_memory_or_disk_counts_what_it_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SPOOL_MEMORY", 10)
    spool = Spool("/nowhere/at/all")
    spool.put(b"x" * 10)
    spool.put(b"y" * 5)
    assert (spool.take(100), spool.dropped) == (b"x" * 10, 5)


def test_what_a_job_leaves_in_a_store_that_deletes_nothing_is_bounded(tmp_path: Path) -> None:
    spool, kept, mib = Spool(str(tmp_path / "overflow")), bytearray(), 1024 * 1024
    for _ in range(66):
        spool.put(b"x" * mib)
    while piece := spool.take(mib):
        kept += piece
    assert kept.startswith(b"x" * 64 * mib)
    assert kept[64 * mib :].startswith(b"\n[titan-runtime] the log has reached its limit of 67108864 bytes")
    assert len(kept) < 64 * mib + 200


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_the_small_json_writer_writes_json(value: object) -> None:
    text = c_modules.dumps(value)
    assert text.isascii()
    assert json.loads(text) == value


def test_json_is_written_while_another_thread_imports_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "json", type(sys)("json"))
    assert c_modules.dumps({"a": [1, None]}) == '{"a":[1,null]}'


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (34, "SIG34"), (0, "SIG0")])
def test_signals_have_names(number: int, name: str) -> None:
    assert c_modules.signal_name(number) == name


@pytest.mark.parametrize(
    ("report", "code", "state", "number"),
    [
        ("S 5\nX 0 exit 1\n", 0, "succeeded", None),
        (f"S 5\nX {3 << 8} exit 1\n", 3, "failed", None),
        ("S 5\nX 11 exit 1\n", 139, "failed", "SIGSEGV"),
        ("S 5\nX 15 timeout 1\n", 143, "failed", "SIGTERM"),
        ("S 5\nX 0 timeout 1\n", 124, "failed", "SIGTERM"),
        ("S 5\nX 9 stopped 1\n", 137, "failed", "SIGKILL"),
        ("S 5\nX 0 stopped 1\n", 143, "failed", "SIGTERM"),
        ("S 5\nF 2 gone\nX 32512 exit 1\n", 127, "failed", None),
        ("S 5\nE OSError: no\n", 137, "failed", "SIGKILL"),
        ("", 137, "failed", "SIGKILL"),
    ],
)
def test_the_guards_report_becomes_record_and_exit_code(
    report: str, code: int, state: str, number: str | None
) -> None:
    got, fields = outcome.describe(report, 0, 0, 1.0, lambda: False)
    assert (got, fields["state"], fields["signal"]) == (code, state, number)


def test_a_launcher_that_was_interrupted_says_by_what() -> None:
    code, fields = outcome.describe("S 5\nX 0 stopped 1\n", 0, signal.SIGINT, None, lambda: False)
    assert code == 130
    assert fields["reason"] == "stopped: the job was sent SIGINT"


def test_a_process_is_known_dead_only_on_certain_knowledge() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = processes.identity(child.pid)
    assert name is not None
    assert not processes.known_dead(name)
    child.communicate(b"\n")
    assert processes.known_dead(name)
    assert not processes.known_dead("another-machine/pid:[1] " + name.split(" ")[1])
    assert not processes.known_dead(None)
    assert not processes.known_dead("")


def test_worker_files_are_python_3_8() -> None:
    files = list(WORKER.rglob("*.py"))
    assert files
    for path in files:
        ast.parse(path.read_text(), str(path), feature_version=(3, 8))


def test_a_start_imports_nothing_heavy() -> None:
    """Each of these costs milliseconds per job, again and again."""
    program = (
        f"import sys; sys.path.insert(0, {str(WORKER.parent)!r}); import worker.main, worker.processes\n"
        "worker.processes.become_subreaper()\n"
        "print(*sorted(set(sys.modules) & {'json', 're', 'enum', 'typing', 'socket', 'signal', 'threading', "
        "'subprocess', 'tempfile', 'shutil', 'hashlib', 'ctypes', 'encodings.idna', 'collections', 'functools'}))"
    )
    done = subprocess.run([sys.executable, "-EsS", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
)


@given(JSON)
def test_a_small_result_is_written_as_json_would_write_it(value: object) -> None:
    path = Path(limits.__file__).with_name("lib") / "titan_job.py"
    spec = importlib.util.spec_from_file_location("titan_job_here", path)
    assert spec is not None
    assert spec.loader is not None
    titan_job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(titan_job)
    assert titan_job._count_json(value) or "\\ud" in json.dumps(value)
    assert titan_job._written(value, json.encoder.encode_basestring_ascii) == json.dumps(value)


def test_a_small_result_brings_no_module_that_its_script_does_not_use(tmp_path: Path) -> None:
    library = Path(limits.__file__).with_name("lib")
    code = (
        "import sys, titan_job; titan_job.progress(0.5, 'é'); titan_job.result({'a': [1, 2.5, None, True]})"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('json' in sys.modules, 're' in sys.modules)"],
        env={"PYTHONPATH": str(library), "TITAN_JOB_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == b"False False\n"
    assert json.loads((tmp_path / "result.json").read_text()) == {"a": [1, 2.5, None, True]}
    assert json.loads((tmp_path / "progress.json").read_text()) == {"fraction": 0.5, "text": "é"}
