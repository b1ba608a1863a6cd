from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from titan_sdk.cluster.folders import DataDir, safe_name
from titan_sdk.errors import TitanError


@settings(deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_a_safe_file_name(text: str) -> None:
    name = safe_name(text)
    assert name not in {"", ".", ".."}
    assert not name.startswith(".")
    assert "/" not in name
    assert "\0" not in name
    assert len(name.encode()) <= 200


@given(st.lists(st.text(max_size=300), unique=True, min_size=2, max_size=20))
def test_different_texts_have_different_names(texts: list[str]) -> None:
    assert len({safe_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("text", ["DAG-train_v1.2", "GPU-1"])
def test_an_ordinary_id_is_its_own_name(text: str) -> None:
    assert safe_name(text) == text


def test_a_folder_has_one_master_at_a_time(tmp_path: Path) -> None:
    first = DataDir(tmp_path / "data")
    with pytest.raises(TitanError, match=r"another master \(process \d+\) uses .*data; stop it"):
        DataDir(tmp_path / "data")
    first.release()
    DataDir(tmp_path / "data").release()


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TitanError, match="as the master's data directory"):
        DataDir(tmp_path / "file")
