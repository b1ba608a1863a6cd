"""The blocking client is written from the asynchronous one."""

from __future__ import annotations

import importlib.util

import pytest

from tests.rules.sources import ROOT

_SPEC = importlib.util.spec_from_file_location("unasync", ROOT / ".ci" / "unasync.py")
assert _SPEC is not None
assert _SPEC.loader is not None
unasync = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(unasync)


def test_the_blocking_half_is_up_to_date() -> None:
    stale = [
        target.relative_to(ROOT).as_posix()
        for target, text in unasync.blocking_halves().items()
        if target.read_text(encoding="utf-8") != text
    ]
    assert not stale, "edit the async_ file, then run `make unasync`"


def test_nothing_of_the_asynchronous_half_is_left_in_the_blocking_one() -> None:
    left = [
        f"{target.name}:{number}: {line}"
        for target, text in unasync.blocking_halves().items()
        for number, line in enumerate(text.splitlines()[1:], 2)
        if any(word in line.lower() for word in ("async", "await", "aio", "event loop"))
    ]
    assert not left


def test_a_substitution_that_replaces_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, new), *_ = unasync.SUBSTITUTIONS
    monkeypatch.setattr(
        unasync, "SUBSTITUTIONS", [*unasync.SUBSTITUTIONS, (unasync.re.compile("no such text"), new)]
    )
    with pytest.raises(ValueError, match="no such text"):
        unasync.blocking_halves()
