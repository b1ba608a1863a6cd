"""The DAGs of the situations: every kind of task in every mode. Jobs count their own runs and wait for a gate."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from titan_provider.operators import base
from titan_provider.operators.dag import TitanDagOperator
from titan_provider.operators.titan import TitanJobOperator

LAB = os.environ["TITAN_LAB"]

# Airflow's own timeout of a trigger is to come soon after the deadline that the dead trigger cannot keep.
base._TRIGGER_GRACE = timedelta(seconds=5)

# One line per start in <name>.count; ends when <name>.gate is there. Prints numbered lines until then.
SCRIPT = r"""
import os, sys, time, titan_job
base = titan_job.params
with open(base + ".count", "a") as f:
    f.write(os.environ["TITAN_JOB_ID"] + "\n")
with open(base + ".count") as f:
    is_first = len(f.readlines()) == 1
n = 0
while not os.path.exists(base + ".gate"):
    if is_first and os.path.exists(base + ".fail"):
        sys.exit(3)
    print("<%d>" % n, flush=True)
    n += 1
    time.sleep(0.1)
titan_job.result({"job": os.environ["TITAN_JOB_ID"], "lines": n})
"""

KINDS: dict[str, dict[str, Any]] = {
    "once": {},
    "retried": {"retries": 1, "retry_delay": timedelta(seconds=0)},
    "leased": {"owner_lease": 4},
    "limited": {"execution_timeout": timedelta(seconds=30)},
    "runlimited": {},
}

for mode in ("sync", "deferred", "mapped", "mappedsync"):
    for kind, arguments in KINDS.items():
        limit = timedelta(seconds=15) if kind == "runlimited" else None
        with DAG(f"{mode}_{kind}", schedule=None, is_paused_upon_creation=False, dagrun_timeout=limit) as dag:
            waits = mode in ("deferred", "mapped")
            common = {"script": SCRIPT, "poll_interval": 0.3, "deferrable": waits, **arguments}
            if mode.startswith("mapped"):
                paths = [LAB + "/{{ run_id }}." + str(n) for n in (0, 1)]
                TitanJobOperator.partial(task_id="t", **common).expand(job_params=paths)
            else:
                TitanJobOperator(task_id="t", job_params=LAB + "/{{ run_id }}.0", **common)
        globals()[dag.dag_id] = dag

# A script that needs four seconds to stop: its runs write "begin" and "end" into one file, in their order.
STOPS = r"""
import os, signal, sys, time, titan_job
def say(word):
    with open(titan_job.params + ".order", "a") as f:
        f.write(word + "\n")
def stop(*_):
    time.sleep(4)
    say("end")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
say("begin")
with open(titan_job.params + ".count", "a") as f:
    f.write(os.environ["TITAN_JOB_ID"] + "\n")
n = 0
while not os.path.exists(titan_job.params + ".gate"):
    print("<%d>" % n, flush=True)
    n += 1
    time.sleep(0.1)
say("end")
"""

for mode in ("sync", "deferred"):
    with DAG(f"{mode}_stops", schedule=None, is_paused_upon_creation=False) as dag:
        TitanJobOperator(
            task_id="t",
            script=STOPS,
            job_params=LAB + "/{{ run_id }}.0",
            poll_interval=0.3,
            deferrable=mode == "deferred",
            cancel_grace=60,
            **KINDS["retried"],
        )
    globals()[dag.dag_id] = dag

# Two jobs in one task, the second after the first.
for mode in ("sync", "deferred"):
    for kind in ("once", "retried"):
        with DAG(f"jobs_{mode}_{kind}", schedule=None, is_paused_upon_creation=False) as dag:
            first, then = (
                {"job_id": name, "script": SCRIPT, "params": LAB + "/{{ run_id }}." + name}
                for name in ("first", "then")
            )
            TitanDagOperator(
                task_id="t",
                jobs=[first, then | {"parents": ["first"]}],
                poll_interval=0.3,
                deferrable=mode == "deferred",
                **KINDS[kind],
            )
        globals()[dag.dag_id] = dag
