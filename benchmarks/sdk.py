"""This SDK's calls against the upstream SDK's, on the same master, in turns.

The raw call is compared with the raw call, and what users call with what users call: `submit_dag` of this SDK
also looks at the ids first, confirms that a real master took every job and writes a manifest, upstream's does not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import echo
from benchmarks.frame import Options, Row
from benchmarks.masters import bundled

ROUNDS = 6
SECONDS = 0.5
GIB = 1024**3
_SIDE = Path(__file__).with_name("sdk_side.py")


def run(options: Options) -> Iterator[Row]:
    with bundled("--workers", "GENERAL=1") as master:
        yield from _compare(options, "bundled master", (master.host, master.port), 3.0)
        yield from _bound(options)
        yield from _memory(options, (master.host, master.port))
    if options.titan_address is not None:
        yield from _compare(options, "real Titan", options.titan_address, 0.9)


def _compare(options: Options, master: str, address: tuple[str, int], target: float) -> Iterator[Row]:
    names = ["ours", "upstream"] if options.upstream else ["ours"]
    seconds = SECONDS / 10 if options.quick else SECONDS
    best: dict[str, dict[str, float]] = {name: {} for name in names}
    for _ in range(1 if options.quick else ROUNDS):
        for name in names:
            # The best of several turns: what disturbs a run only ever slows it.
            for what, value in side("measure", name, seconds, address, options).items():
                best[name][what] = max(value, best[name].get(what, 0.0))
    for what, value in best["ours"].items():
        other = best.get("upstream", {}).get(what)
        small = what in {"status", "put 100 B", "get 100 B"} or what.endswith("1, call")
        # Only small calls can profit from a kept connection; a large one is bound by its bytes.
        wanted = target if small or target < 1 else 0.9
        yield Row(
            f"SDK on the {master}",
            what,
            value,
            "/s",
            "upstream SDK" if other else "",
            value / other if other else None,
            "" if what.endswith("whole") else f">= {wanted:g}x",
        )


def _bound(options: Options) -> Iterator[Row]:
    """Without it nobody could tell what of a small call's ratio is the SDK's doing and what the machine's."""
    seconds = SECONDS / 10 if options.quick else SECONDS
    rounds = range(1 if options.quick else ROUNDS)
    found = [(echo.kept(seconds), echo.connecting(seconds)) for _ in rounds]
    one, each = (max(side) for side in zip(*found, strict=True))
    label = "an echo of 40 B, one connection for all"
    yield Row("SDK on the bundled master", label, one, "/s", "one connection each", one / each)


def _memory(options: Options, address: tuple[str, int]) -> Iterator[Row]:
    for label, size in (("7 MiB", 7 * 1024**2), ("1 GiB", GIB // 10 if options.quick else GIB)):
        found = side("memory", "ours", size, address, options)
        target = "< 64 MiB" if size > GIB // 20 else ""
        yield Row("SDK memory", f"growth by an upload of {label}", found["grew"], "MiB", target=target)
        yield Row("SDK memory", f"upload of {label}", size / 1024**2 / found["seconds"], "MiB/s")
    if options.upstream:
        found = side("memory", "upstream", 7 * 1024**2, address, options)
        yield Row("SDK memory", "growth by an upload of 7 MiB, upstream SDK", found["grew"], "MiB")


def side(what: str, name: str, amount: float, address: tuple[str, int], options: Options) -> dict[str, float]:
    """What ``sdk_side`` measures with the SDK of that name."""
    root = str(options.upstream.resolve()) if name == "upstream" and options.upstream else ""
    environ = {**os.environ, "TITAN_HOST": address[0], "TITAN_PORT": str(address[1]), "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-P", str(_SIDE), what, name, str(amount)],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found
