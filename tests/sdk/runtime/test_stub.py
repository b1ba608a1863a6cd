"""The stub finds a Python and a bundle it can trust, or says in one sentence why it cannot."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.runtime_bench import Bench
from titan_sdk.runtime.bundle import Asset, runtime_bundle
from titan_sdk.runtime.stub import build_stub

FETCH = 0x54


@pytest.fixture
def cold(bench: Bench) -> Bench:
    """A worker that has never run a job."""
    bench.environment["TITAN_RUNTIME_CACHE"] = str(bench.cache)
    return bench


def fetches(bench: Bench) -> int:
    return sum(opcode == FETCH for opcode, _ in bench.store.requests)


def cached(bench: Bench) -> list[Path]:
    return sorted(bench.cache.iterdir())


def test_the_bundle_is_fetched_once_and_kept_privately(cold: Bench) -> None:
    for _ in range(3):
        assert cold.run(cold.spec("print('ran')")).text == "ran\n"
    assert fetches(cold) == 1
    assert cold.cache.stat().st_mode & 0o777 == 0o700
    assert len(cached(cold)) == 2  # as fetched, and with this Python's bytecode


@pytest.mark.parametrize("bad", [b"", b"half", b"corrupt" * 20_000])
def test_a_bundle_that_is_being_overwritten_is_fetched_again(cold: Bench, bad: bytes) -> None:
    cold.store.asset_replies = [bad, runtime_bundle().data[:1000]]
    assert cold.run(cold.spec("print('ran')")).text == "ran\n"
    assert fetches(cold) == 3


def test_a_bundle_that_stays_wrong_starts_nothing(cold: Bench) -> None:
    cold.store.assets[runtime_bundle().name] = b"something else"
    done = cold.run(cold.spec("open('ran', 'w')"), TITAN_RUNTIME_START_PATIENCE="0.2")
    assert done.code == 97
    assert "has no intact titan-runtime-" in done.text
    assert not (cold.shared / "ran").exists()
    assert cached(cold) == []


def test_a_missing_bundle_starts_nothing(cold: Bench) -> None:
    cold.store.assets.clear()
    done = cold.run(cold.spec("open('ran', 'w')"), TITAN_RUNTIME_START_PATIENCE="0.2")
    assert (done.code, "ERROR_NOT_FOUND" in done.text) == (97, True)


def test_damaged_files_in_the_cache_are_not_run(cold: Bench) -> None:
    cold.run(cold.spec("pass"))
    for path in cached(cold):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    assert cold.run(cold.spec("print('ran')")).text == "ran\n"
    assert fetches(cold) == 2


def test_a_cache_that_others_can_write_to_is_not_used(cold: Bench) -> None:
    cold.cache.mkdir(mode=0o777)
    cold.cache.chmod(0o777)
    assert cold.run(cold.spec("print('ran')"), HOME=str(cold.temporary)).text == "ran\n"
    assert cached(cold) == []


def test_a_worker_without_home_uses_a_private_folder_below_tmpdir(cold: Bench) -> None:
    environment = {"TITAN_RUNTIME_CACHE": "", "HOME": "/proc/nowhere", "XDG_CACHE_HOME": ""}
    assert cold.run(cold.spec("print('ran')"), **environment).text == "ran\n"
    (folder,) = cold.leftovers()
    assert folder == f"titan-runtime-{os.getuid()}"


def test_jobs_that_fill_the_cache_at_the_same_time_do_not_disturb_each_other(cold: Bench) -> None:
    running = [cold.start(cold.spec(f"print({i})")) for i in range(4)]
    assert [job.wait().text for job in running] == [f"{i}\n" for i in range(4)]
    assert all(path.suffix == ".zip" for path in cached(cold))


def test_no_python_gives_one_sentence_and_98(bench: Bench) -> None:
    done = bench.run(bench.spec("print('ran')"), PATH="/nowhere")
    assert done.code == 98
    assert done.text.count("\n") == 1
    assert "titan-runtime: this worker has no Python for job DAG-job" in done.text


def test_a_python_asked_for_by_name_and_not_there_is_named(bench: Bench) -> None:
    done = bench.run(bench.spec("print('ran')", python="/opt/it's gone/python"))
    assert done.code == 98
    assert "/opt/it's gone/python" in done.text
    assert "python=" in done.text


def test_the_python_asked_for_is_the_one_that_runs_the_script(bench: Bench, tmp_path: Path) -> None:
    """A path with a space; the link keeps the launcher from resolving to the same file by another name."""
    here = tmp_path / "my python"
    real = subprocess.run(
        ["python3", "-c", "import sys; print(sys.executable)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    here.symlink_to(real)
    done = bench.run(bench.spec("import sys; print(sys.executable)", python=str(here)))
    assert done.text == f"{here}\n"


def test_a_broken_python3_gives_way_to_python(bench: Bench, tmp_path: Path) -> None:
    real = subprocess.run(
        ["python3", "-c", "import sys; print(sys.executable)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / "python3").write_text("#!/no/such/interpreter\n")
    (tmp_path / "python3").chmod(0o755)
    (tmp_path / "python").symlink_to(real)
    done = bench.run(bench.spec("print('ran')"), PATH=str(tmp_path))
    assert done.code == 0
    assert done.text.endswith("ran\n")


def test_the_stub_is_small_and_depends_on_nothing_but_its_arguments(bench: Bench) -> None:
    spec = bench.spec("print('hello')\n", argv=("--epochs", "3"), params={"rate": 0.1})
    first = build_stub(spec, runtime_bundle())
    assert first == build_stub(spec, runtime_bundle())
    assert len(first) < 3584
    assert first.isascii()


def test_the_bundle_is_the_same_bytes_each_time() -> None:
    first = runtime_bundle()
    runtime_bundle.cache_clear()
    second = runtime_bundle()
    assert first == second
    assert isinstance(first, Asset)
    assert first.name == f"titan-runtime-{first.sha256[:32]}.zip"
    assert b"__pycache__" not in first.data


def test_the_launcher_replaces_bash_and_starts_one_more_process_per_purpose(bench: Bench) -> None:
    """Launcher, guard, user: the worker's direct process is the launcher itself."""
    fifo = bench.fifo()
    running = bench.start(
        bench.spec(f"import os, time\nopen({str(fifo)!r}, 'w').write('%d' % os.getppid())\ntime.sleep(60)")
    )
    guard = fifo.read_text()
    parent = Path(f"/proc/{guard}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) == running.pid
    assert "python" in os.readlink(f"/proc/{running.pid}/exe")
    running.process.kill()
    running.wait()
