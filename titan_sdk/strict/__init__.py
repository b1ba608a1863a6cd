"""A master that behaves as the real one does, hazards included: ``LocalCluster(strict_titan=True)``.

It has its own state machine, because it must imitate the defects of the real scheduler.
"""

from __future__ import annotations

from titan_sdk.strict.node import StrictControl, StrictNode
from titan_sdk.strict.settings import StrictSettings

__all__ = ["StrictControl", "StrictNode", "StrictSettings"]
