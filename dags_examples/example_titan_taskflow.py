"""Functions of the DAG file itself on Titan workers, with `@task.titan`: what they return is their XCom.

A function travels with the imports, plain values and helper functions of its file that it uses; arguments and results
are JSON values. Needs: connection `titan_default`.
"""

from __future__ import annotations

import math

from airflow.providers.common.compat.sdk import DAG, task

STEPS = 100_000


def height(x: float) -> float:
    """A quarter of the unit circle."""
    return math.sqrt(1 - x * x)


with DAG("example_titan_taskflow", schedule=None, tags=["example", "titan"]) as dag:

    @task.titan(poll_interval=0.5)
    def area(part: int, parts: int) -> float:
        """The area under one slice of the curve, by the midpoint rule."""
        width = 1 / parts
        step = width / STEPS
        print(f"slice {part} of {parts} in {STEPS} steps")
        return sum(height(part * width + (n + 0.5) * step) for n in range(STEPS)) * step

    @task
    def add(slices: list[float]) -> None:
        """Sum up in Airflow."""
        pi = 4 * sum(slices)
        print(f"pi is about {pi:.9f}")
        if abs(pi - math.pi) > 1e-6:
            raise ValueError(f"{pi} is not pi")

    add(area.partial(parts=3).expand(part=[0, 1, 2]))
