"""`make bench`: how fast codec, client and bundled master are on this machine, run on demand.

Numbers depend on the machine: compare runs on the same one, and give both sides the same Python.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from titan_sdk import TitanClient, TitanJob
from titan_sdk.cluster import LocalCluster
from titan_sdk.wire.frames import FrameDecoder, encode_frame
from titan_sdk.wire.opcodes import Opcode

JOBS = 100


def codec() -> list[tuple[str, str]]:
    payload = b"k" * 64 + b"|" + b"v" * 1024
    frame = encode_frame(Opcode.KV_SET, payload)

    def decode() -> None:
        decoder = FrameDecoder()
        decoder.feed(frame)
        decoder.next_frame()

    encoded = _micros(lambda: encode_frame(Opcode.KV_SET, payload), 20_000)
    return [("encode a 1 KiB frame", f"{encoded:.1f} µs"), ("decode it", f"{_micros(decode, 20_000):.1f} µs")]


def exchanges(client: TitanClient) -> list[tuple[str, str]]:
    client.store_put("bench", "v" * 1024)
    return [
        ("store_get of 1 KiB, one after the other", _spread(lambda: client.store_get("bench"), 500)),
        ("get_job_status of an unknown id", _spread(lambda: client.get_job_status("bench-none"), 500)),
    ]


def jobs(client: TitanClient, script: Path) -> list[tuple[str, str]]:
    run = uuid4().hex[:8]
    rows = []
    for runtime in (True, False):
        named = [TitanJob(f"bench-{run}-{runtime}-{n}", str(script), runtime=runtime) for n in range(JOBS)]
        started = time.perf_counter()
        client.submit_dag(f"bench-{run}", named).wait(timeout=300)
        took = time.perf_counter() - started
        how = "with" if runtime else "without"
        rows.append(
            (f"{JOBS} jobs that do nothing, {how} the runtime", f"{took:.1f} s, {JOBS / took:.0f} per second")
        )
    return rows


def _micros(function: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - started) / times * 1e6


def _spread(function: Callable[[], object], times: int) -> str:
    samples = []
    for _ in range(times):
        started = time.perf_counter()
        function()
        samples.append((time.perf_counter() - started) * 1e3)
    return f"p50 {statistics.median(samples):.2f} ms, p99 {statistics.quantiles(samples, n=100)[98]:.2f} ms"


def main() -> None:
    table = Table("what", "how fast", title="benchmarks")
    with tempfile.TemporaryDirectory() as folder, LocalCluster({"GENERAL": 1}, slots=4) as cluster:
        script = Path(folder) / "noop.py"
        script.write_text("pass\n", encoding="utf-8")
        with TitanClient(cluster.host, cluster.port) as client:
            for row in [*codec(), *exchanges(client), *jobs(client, script)]:
                table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
