from __future__ import annotations

from pathlib import Path

import pytest

from titan_sdk.cluster.store.sqlite.schema import SCHEMA_VERSION, open_database
from titan_sdk.errors import TitanError


def test_a_damaged_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"this is no database, but it is long enough to have been one" * 100)
    with pytest.raises(TitanError, match=r"cannot open the master's state in .*move its folder away"):
        open_database(path)


def test_a_newer_format_is_refused_with_a_sentence(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(TitanError, match=f"has format {SCHEMA_VERSION + 1}; this version reads format"):
        open_database(tmp_path / "db")
