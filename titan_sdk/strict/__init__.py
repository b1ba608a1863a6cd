"""A master that behaves as the real one does, hazards included: ``LocalCluster(strict_titan=True)``.

It is a state machine of its own beside the bundled master's, because the real scheduler's defects are the point.
"""

from __future__ import annotations

from titan_sdk.strict.node import StrictControl, StrictNode
from titan_sdk.strict.settings import StrictSettings

__all__ = ["StrictControl", "StrictNode", "StrictSettings"]
