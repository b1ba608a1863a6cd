"""Tasks killed, marked and cleared under `airflow standalone`: the cells of the table that CI has time for.

`make chaos` runs all of them.
"""

from __future__ import annotations

import pytest

from tests.e2e.cells import check_cell
from tests.e2e.lab import Standalone
from tests.e2e.situations import DEFERRED, MAPPED, SITUATIONS, SYNC, Situation

CHOSEN = {
    "sigterm": (SYNC,),
    "sigkill_then_retry": (SYNC, MAPPED),
    "mark_failed": (SYNC, DEFERRED),
    "mark_success": (DEFERRED,),
    "clear_while_it_waits": (SYNC, DEFERRED),
    "clear_after_success": (DEFERRED,),
    "execution_timeout": (DEFERRED,),
    "triggerer_killed": (DEFERRED, MAPPED),
}
CELLS = [
    pytest.param(situation, mode, id=f"{situation.name}-{mode}")
    for situation in SITUATIONS
    for mode in CHOSEN.get(situation.name, ())
]


@pytest.mark.parametrize(("situation", "mode"), CELLS)
def test_cell(airflow: Standalone, situation: Situation, mode: str) -> None:
    check_cell(airflow, situation, mode)
