"""One job for each item of a list that is known only at run time, and one for all their results.

At most `max_unfinished` of a tag's jobs are on the master at once; the tasks of the others wait in the triggerer.
Needs: connection `titan_default`; a triggerer.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from titan_provider.operators.titan import TitanJobOperator

COUNT_PRIMES = """
import titan_job

first, last = titan_job.params
primes = [n for n in range(max(first, 2), last) if all(n % d for d in range(2, int(n**0.5) + 1))]
titan_job.result(len(primes))
"""

with DAG("example_titan_mapped", schedule=None, tags=["example", "titan"]) as dag:

    @task
    def ranges() -> list[list[int]]:
        """What to share out."""
        return [[n, n + 250] for n in range(0, 1000, 250)]

    count = TitanJobOperator.partial(
        task_id="count",
        script=COUNT_PRIMES,
        deferrable=True,
        poll_interval=0.5,
        max_unfinished=2,
    ).expand(job_params=ranges())

    @task.titan(requirement="GPU")
    def total(counts: list[int]) -> int:
        """Runs on a worker as well; the results of the mapped tasks arrive as a list."""
        print(counts)
        assert sum(counts) == 168, "primes below 1000"
        return sum(counts)

    total(count.output)
