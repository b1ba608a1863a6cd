"""The pages name everything that there is, so that a new parameter or feature cannot stay undocumented."""

from __future__ import annotations

import inspect
import re

import pytest

from tests.rules.sources import ROOT, sources
from titan_sdk.cluster.requests.opcode_table import FEATURES
from titan_sdk.wire.opcodes import Opcode

DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def table_cells(text: str, column: int = 0) -> set[str]:
    """The code words of one column of all tables of a page."""
    rows = [line.split("|")[1:] for line in text.splitlines() if line.startswith("|")]
    return {word for cells in rows if len(cells) > column for word in re.findall(r"`([^`]+)`", cells[column])}


def test_the_cluster_page_lists_exactly_the_features_that_hello_announces() -> None:
    section = page("cluster.md").partition("## How it differs from a real Titan")[2]
    assert table_cells(section) == set(FEATURES)


def test_the_protocol_page_specifies_our_own_opcodes() -> None:
    own = [op for op in Opcode if 0x40 <= op <= 0x4F]
    assert [op.name for op in own if f"0x{op:02X} | {op.name}" not in page("protocol.md")] == []


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("module", "name", "where"),
    [
        ("titan_provider.operators.titan", "TitanJobOperator", "operators.md"),
        ("titan_provider.sensors.titan", "TitanDagSensor", "operators.md"),
        ("titan_provider.operators.dag", "TitanDagOperator", "dag-operator.md"),
        ("titan_provider.operators.service", "TitanServiceOperator", "service-operator.md"),
        ("titan_provider.operators.service", "TitanServiceStopOperator", "service-operator.md"),
    ],
)
def test_an_operators_page_names_every_parameter(module: str, name: str, where: str) -> None:
    import importlib

    operator = getattr(importlib.import_module(module), name)
    parameters = set(inspect.signature(operator.__init__).parameters) - {"self", "kwargs"}
    assert parameters - table_cells(page(where)) == set()


def test_the_operators_page_names_every_field_of_the_connection_form() -> None:
    from titan_provider.get_provider_info import get_provider_info

    info: dict[str, object] = get_provider_info()
    (connection,) = info["connection-types"]  # type: ignore[misc]
    assert set(connection["conn-fields"]) <= table_cells(page("operators.md"))
    options = info["config"]["titan_provider"]["options"]  # type: ignore[index]
    assert set(options) <= table_cells(page("operators.md"))


def test_the_architecture_page_points_to_files_that_exist() -> None:
    text = page("architecture.md")
    named = re.findall(r"`((?:titan_sdk|titan_provider|tests|dags_examples)/[\w./]*)`", text)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_architecture_page_names_every_part_of_both_packages() -> None:
    text = page("architecture.md")
    parts = {
        "/".join(s.name.split("/")[:2]) for s in sources("titan_sdk", "titan_provider") if "/" in s.name[10:]
    }
    quiet = {"__init__.py", "__main__.py", "exceptions.py", "events.py", "compat.py"}
    missing = [
        p for p in parts if p.split("/")[1] not in quiet and p.split("/")[1].removesuffix(".py") not in text
    ]
    assert missing == []


def test_the_changelog_has_each_section_once_and_each_change_once() -> None:
    """Branches merge it by union, which can bring back lines that were removed meanwhile."""
    unreleased = (
        (ROOT / "CHANGELOG.md")
        .read_text(encoding="utf-8")
        .partition("\n## [Unreleased]\n")[2]
        .partition("\n## [")[0]
    )
    lines = [line for line in unreleased.splitlines() if line]
    sections = [line for line in lines if line.startswith("#")]
    assert sections == [
        f"### {name}" for name in ("Added", "Changed", "Removed", "Fixed") if f"### {name}" in sections
    ]
    assert [line for line in lines if not line.startswith(("### ", "- "))] == [], "one line for each change"
    assert [line for line in lines if lines.count(line) > 1] == []
