"""The script of an approval gate: it travels like any other script; see ``worker/lib/titan_gate.py``."""

from __future__ import annotations

from pathlib import Path

__all__ = ["GATE_SCRIPT"]

GATE_SCRIPT = Path(__file__).parent / "worker" / "lib" / "titan_gate.py"
