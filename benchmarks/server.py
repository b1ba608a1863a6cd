"""The bundled master's store and artifacts, and how soon a waiter hears of an end."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.frame import Options, Row, per_second, spread_ms
from benchmarks.masters import bundled
from titan_sdk import TitanClient, TitanJob

GROUP = "server"
WAITS = 200
ARTIFACT_MIB = 64


def run(options: Options) -> Iterator[Row]:
    with (
        tempfile.TemporaryDirectory(prefix="titan-bench-") as folder,
        bundled("--workers", "GENERAL=1") as master,
        TitanClient(master.host, master.port) as client,
    ):
        seconds = 0.3 if options.quick else 3.0
        for label, size in (("100 B", 100), ("1 MiB", 2**20)):
            put = functools.partial(client.store_put, "k", "x" * size)
            yield Row(GROUP, f"put {label}", per_second(put, seconds), "/s")
            yield Row(GROUP, f"get {label}", per_second(lambda: client.store_get("k"), seconds), "/s")
        yield from _artifact(options, client, Path(folder))
        yield from _wake_up(options, client, Path(folder))


def _artifact(options: Options, client: TitanClient, folder: Path) -> Iterator[Row]:
    mib = options.scaled(ARTIFACT_MIB)
    path = folder / "artifact.bin"
    path.write_bytes(bytes(mib * 2**20))
    started = time.perf_counter()
    client.upload_file(path)
    yield Row(GROUP, f"artifact of {mib} MiB up", mib / (time.perf_counter() - started), "MiB/s")
    started = time.perf_counter()
    client.fetch_artifact(path.name, folder / "back.bin")
    yield Row(GROUP, f"artifact of {mib} MiB down", mib / (time.perf_counter() - started), "MiB/s")


def _wake_up(options: Options, client: TitanClient, folder: Path) -> Iterator[Row]:
    """From the job's last statement, so the end of its interpreter is in it."""
    left = folder / "ended"
    script = folder / "last.py"
    lines = (
        "import os, pathlib, time",
        f"pathlib.Path({str(left)!r}).write_text(str(time.time()))",
        "os._exit(0)",
    )
    script.write_text("\n".join(lines), encoding="utf-8")
    samples = []
    for n in range(options.scaled(WAITS)):
        handle = client.submit_job(TitanJob(f"wait-{n}", str(script), runtime=False))
        handle.wait()
        samples.append(time.time() - float(left.read_text(encoding="ascii")))
    middle, worst = spread_ms(samples)
    yield Row(GROUP, "a waiter hears of an end after, median", middle, "ms", target="<= 20 ms")
    yield Row(GROUP, "the same, 99th percentile", worst, "ms")
