"""The table of docs/durability.md is the one that `make chaos` proves cell by cell."""

from __future__ import annotations

import pytest

from tests.rules.sources import ROOT
from tests.rules.test_docs import page

pytestmark = pytest.mark.airflow


def test_the_page_shows_exactly_the_cells_that_are_tested() -> None:
    from tests.e2e.situations import as_markdown

    shown = [line for line in page("durability.md").splitlines() if line.startswith("| ") and "×" in line]
    assert shown == as_markdown().splitlines()[2:]


def test_no_situation_is_listed_twice() -> None:
    from tests.e2e.situations import SITUATIONS

    assert len({one.what for one in SITUATIONS}) == len({one.name for one in SITUATIONS}) == len(SITUATIONS)
    assert (ROOT / "tests/e2e/chaos/test_situations.py").exists()
