"""Runs on a worker: pretends to read some rows and says how many."""

from __future__ import annotations

import argparse

import titan_job  # travels with the job; nothing to install on the worker

parser = argparse.ArgumentParser()
parser.add_argument("--rows", type=int, default=2)
rows = parser.parse_args().rows

source = (titan_job.params or {}).get("source", "nowhere in particular")
for row in range(rows):
    print(f"row {row} from {source}")
    titan_job.progress((row + 1) / rows, f"row {row}")
titan_job.result({"rows": rows, "source": source})
