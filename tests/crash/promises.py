"""What a master's ``durability`` promises for a power cut. test_power.py proves each cell; docs/durability.md shows them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROMISES", "Promise", "as_markdown", "may_be_lost"]


@dataclass(frozen=True)
class Promise:
    """A row.

    Args:
        kinds: the facts and findings of test_power.py that it is about.
        normal: the cell of that mode, and ``full`` of the other.
        loses: whether ``normal`` may lose it.
    """

    what: str
    kinds: tuple[str, ...]
    normal: str
    full: str
    loses: bool


PROMISES = (
    Promise(
        "a value, a submission, a cancel, an end that was told",
        ("value", "member", "job"),
        "there, or undone from some moment on, usually the last half minute; never half of a transaction",
        "there",
        loses=True,
    ),
    Promise(
        "an artifact or a deployed script that was stored",
        ("artifact", "script"),
        "there, missing or damaged",
        "there, whole",
        loses=True,
    ),
    Promise(
        "the output of a job whose end was told",
        ("output",),
        "there, missing or damaged",
        "there, whole",
        loses=True,
    ),
    Promise(
        "a new data directory, and its cluster's id",
        ("identity",),
        "there, or never made; never half an id",
        "there",
        loses=False,
    ),
    Promise(
        "jobs that ran",
        ("run",),
        "have ended with the machine; each counts a run, and runs again if it has one left",
        "the same",
        loses=False,
    ),
    Promise("the folder", ("folder", "order"), "opens", "opens", loses=False),
)


def may_be_lost(kind: str, durability: str) -> bool:
    """Whether something of that kind may be gone although it was acknowledged."""
    (promise,) = (promise for promise in PROMISES if kind in promise.kinds)
    return durability == "normal" and promise.loses


def as_markdown() -> str:
    """The table of the page."""
    rows = [("after a power cut of the master's machine", "`normal` (the default)", "`full`"), ("---",) * 3]
    rows += [(promise.what, promise.normal, promise.full) for promise in PROMISES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
