"""Jobs that count their own runs."""

from __future__ import annotations

from pathlib import Path

__all__ = ["counted", "runs"]


def counted(folder: Path, name: str, more: str) -> str:
    """Code that notes each of its runs."""
    return f"import os\nos.write(os.open({str(folder / (name + '.runs'))!r}, 0o2101), b'x')\n" + more


def runs(folder: Path, name: str) -> int:
    """How many there were."""
    path = folder / f"{name}.runs"
    return path.stat().st_size if path.exists() else 0
