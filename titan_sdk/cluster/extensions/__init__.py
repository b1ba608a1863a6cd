"""The bundled master's answers to our extension opcodes (docs/protocol.md)."""

from __future__ import annotations

from titan_sdk.cluster.extensions.registry import FEATURES, Extensions

__all__ = ["FEATURES", "Extensions"]
