"""A master that starts on a disk without room: it says so, or it starts; it never says that something is damaged."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from titan_sdk.cluster.disk import advice

# Slow: Disks of many sizes are filled.
pytestmark = pytest.mark.slow

_PROGRAM = """
import asyncio, os, shutil, sys
from pathlib import Path
from titan_sdk.cluster.app import App
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.errors import TitanError

disk = Path(sys.argv[1])

async def attempt(folder):
    app = App(ClusterSettings(folder, port=0), "0")
    try:
        await app.start()
    except TitanError as exc:
        print("refused:", exc)
    else:
        print("started")
        await app.stop()

for room in range(0, 480, 16):
    with open(disk / "fill", "wb") as fill:
        os.posix_fallocate(fill.fileno(), 0, shutil.disk_usage(disk).free - room * 1024)
    print(room, "KiB:", end=" ", flush=True)
    asyncio.run(attempt(disk / "data"))
    shutil.rmtree(disk / "data", ignore_errors=True)
    os.unlink(disk / "fill")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small file system")
def test_whatever_room_there_is_the_advice_is_to_make_some(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec "$@"'
    ran = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-c", _PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "unshare" in ran.stderr or "mount" in ran.stderr:
        pytest.skip(f"no file system can be mounted here: {ran.stderr.strip()}")
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    refused = [line for line in said if "refused:" in line]
    assert len(refused) > 3, said
    assert all("make room on the disk, or give another data_dir" in line for line in refused), refused
    assert said[-1].endswith("started"), said


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "make room on the disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "make room on the disk"),
        (OSError(errno.EROFS, "Read-only file system"), "let this user write there"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "give another data_dir"),
    ],
)
def test_each_cause_has_its_advice(exc: OSError, words: str, tmp_path: Path) -> None:
    assert words in advice(exc, tmp_path)


def test_each_cause_of_a_databases_failure_has_its_advice(tmp_path: Path) -> None:
    def failure(statement: str, path: Path, *before: str) -> sqlite3.Error:
        db = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        try:
            for one in before:
                db.execute(one)
            with pytest.raises(sqlite3.Error) as caught:
                db.execute(statement)
            return caught.value
        finally:
            db.close()

    (tmp_path / "text").write_bytes(b"no database, but long enough to have been one" * 100)
    assert "is damaged" in advice(failure("CREATE TABLE t (x)", tmp_path / "text"), tmp_path)
    few = ("CREATE TABLE t (x)", "PRAGMA max_page_count=2")
    full = failure("INSERT INTO t VALUES (zeroblob(100000))", tmp_path / "full", *few)
    assert "make room on the disk" in advice(full, tmp_path)
    only = failure("CREATE TABLE t (x)", tmp_path / "only", "PRAGMA query_only=1")
    assert "let this user write there" in advice(only, tmp_path)
    holder = sqlite3.connect(tmp_path / "held", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert "another program uses the file" in advice(failure("BEGIN EXCLUSIVE", tmp_path / "held"), tmp_path)
    holder.close()
