"""Jobs whose output is not harmless."""

from __future__ import annotations

from airflow.sdk import DAG

from titan_provider.operators.titan import TitanJobOperator

SECRET = r"""
import os, time
print("the token is", os.environ["API_TOKEN"], flush=True)
time.sleep(2)
"""
CHATTY = r"""
for n in range(130000):
    print("line %d" % n)
"""

for mode in ("sync", "deferred"):
    for kind, script in (("secret", SECRET), ("chatty", CHATTY)):
        with DAG(f"log_{mode}_{kind}", schedule=None, is_paused_upon_creation=False) as dag:
            TitanJobOperator(
                task_id="t",
                script=script,
                env={"API_TOKEN": "xyzzy-1234567890"},
                poll_interval=0.3,
                deferrable=mode == "deferred",
            )
        globals()[dag.dag_id] = dag
