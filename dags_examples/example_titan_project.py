"""A folder with a package and its data on Titan workers: a module of it trains, and a function uses what it has.

The folder `spam` travels once per content. Needs: connection `titan_default`.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from titan_provider.operators.titan import TitanJobOperator

with DAG("example_titan_project", schedule=None, tags=["example", "titan"]) as dag:
    train = TitanJobOperator(
        task_id="train",
        project="spam",  # beside this file
        module="spamfilter.train",  # as `python -m spamfilter.train` in that folder
        args=["--test-share", 0.25],
        poll_interval=0.5,
    )

    @task.titan(project="spam", poll_interval=0.5)
    def classify(trained: dict, messages: list[str]) -> list[str]:
        """Sort messages with the package's own code."""
        from spamfilter.bayes import label_of

        print("right in the tests:", trained["accuracy"])
        return [label_of(trained["weights"], message) for message in messages]

    @task
    def check(labels: list[str]) -> None:
        """Compare in Airflow."""
        if labels != ["spam", "ham"]:
            raise ValueError(f"{labels} is not what a reader would say")

    check(classify(train.output, ["win a free prize now", "see you at lunch tomorrow"]))
