"""Greets, and shows what a job is given: arguments, environment, parameters, its own id."""

from __future__ import annotations

import argparse
import os
import platform

import titan_job  # travels with the job; nothing to install on the worker

parser = argparse.ArgumentParser()
parser.add_argument("--name", default="world")
name = parser.parse_args().name

greeting = f"{os.environ.get('GREETING', 'Hi')}, {name}!"
print(greeting)
print(
    f"job {titan_job.job_id}, attempt {titan_job.attempt}, on {platform.node()}, parameters {titan_job.params}"
)
titan_job.result({"greeting": greeting, "run": titan_job.params["run"]})
