"""Situation x mode, as docs/durability.md tabulates it: one cell, one test."""

from __future__ import annotations

import pytest

from tests.e2e.cells import check_cell
from tests.e2e.lab import Lab
from tests.e2e.situations import SITUATIONS, Situation

pytestmark = pytest.mark.timeout(480)
CELLS = [
    pytest.param(situation, mode, id=f"{situation.name}-{mode}")
    for situation in SITUATIONS
    for mode in situation.cells
]


@pytest.mark.parametrize(("situation", "mode"), CELLS)
def test_cell(lab: Lab, situation: Situation, mode: str) -> None:
    check_cell(lab, situation, mode)
