"""Fits the filter to data/messages.csv, tries it on a part of them, and gives both as the job's result."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import titan_job  # travels with the job; nothing to install on the worker

from spamfilter.bayes import fit, label_of

parser = argparse.ArgumentParser()
parser.add_argument("--test-share", type=float, default=0.2)
share = parser.parse_args().test_share

# The project's root is the current folder.
with Path("data/messages.csv").open(encoding="utf-8", newline="") as file:
    labelled = [(row["label"], row["message"]) for row in csv.DictReader(file)]
tested = max(1, round(len(labelled) * share))
weights = fit(labelled[:-tested])
right = sum(label_of(weights, message) == label for label, message in labelled[-tested:])
print(f"trained on {len(labelled) - tested} messages, {right} of {tested} others are told rightly")
titan_job.result({"weights": weights, "accuracy": right / tested})
