"""Every code block of the README and of docs/ works as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Master
from tests.examples.markdown import KNOWN, Block, blocks, fences
from tests.examples.player import Player
from tests.rules.sources import ROOT

# Above the limit of one block, which then says what it was doing.
# Slow: Each block runs as a person would run it, with a cluster or an Airflow of its own.
pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.fixture(scope="module")
def players(
    cluster: Master, airflow_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Player]:
    """One for each page: a page's blocks build on each other."""
    return {page.name: Player(tmp_path_factory.mktemp(page.stem), cluster.address) for page in PAGES}


def test_every_block_is_accounted_for() -> None:
    assert [page.name for page in PAGES if len(blocks(page)) != fences(page)] == []
    assert [str(block) for block in BLOCKS if block.what not in KNOWN] == []


def test_links_inside_the_repository_lead_somewhere() -> None:
    links = [
        (page, link)
        for page in PAGES
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in link
    ]
    assert links
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_works_as_printed(block: Block, players: dict[str, Player]) -> None:
    players[block.page].play(block)
