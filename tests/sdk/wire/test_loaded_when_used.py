"""The modules of ``wire`` and ``flows`` are loaded when they are first used."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from titan_sdk import flows, wire


@pytest.mark.parametrize("package", [flows, wire])
def test_there_are_no_others(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018 - to read it is the test


@pytest.mark.parametrize("package", [flows, wire])
def test_a_module_that_is_missing_inside_one_is_told_by_its_own_name(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{package.__name__}.listing"
    assert package.listing.__name__ == name
    monkeypatch.delattr(package, "listing")
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "titan_sdk.model.listing", None)  # as if it was not installed
    with pytest.raises(ModuleNotFoundError, match=r"titan_sdk\.model\.listing"):
        package.listing  # noqa: B018 - to read it is the test
