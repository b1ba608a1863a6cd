"""Runs on a worker tagged GPU: says what it would train on."""

from __future__ import annotations

import shutil

import titan_job

device = "GPU" if shutil.which("nvidia-smi") else "CPU (this worker has the tag GPU, but no NVIDIA driver)"
print(f"training on the {device}")
titan_job.result({"device": device.split()[0]})
