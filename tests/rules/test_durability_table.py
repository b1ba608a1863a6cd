"""The tables of docs/durability.md are those that `make chaos` and `make crash` prove cell by cell."""

from __future__ import annotations

import pytest

from tests.crash import promises
from tests.rules.sources import ROOT
from tests.rules.test_docs import page


@pytest.mark.airflow
def test_the_page_shows_exactly_the_cells_that_are_tested() -> None:
    from tests.e2e.situations import as_markdown

    shown = [line for line in page("durability.md").splitlines() if line.startswith("| ") and "×" in line]
    assert shown == as_markdown().splitlines()[2:]


def test_the_page_shows_exactly_what_power_cuts_are_tested_for() -> None:
    assert f"\n\n{promises.as_markdown()}\n\n" in page("durability.md")


@pytest.mark.airflow
def test_no_situation_is_listed_twice() -> None:
    from tests.e2e.situations import SITUATIONS

    assert len({one.what for one in SITUATIONS}) == len({one.name for one in SITUATIONS}) == len(SITUATIONS)
    assert (ROOT / "tests/e2e/chaos/test_situations.py").exists()
