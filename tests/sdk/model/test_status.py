"""The words of a master and what they mean."""

from __future__ import annotations

import pytest

from titan_sdk.model.status import JobStatus

TERMINAL = {"COMPLETED", "DEAD", "CANCELLED"}


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_status_equals_its_word_and_knows_whether_it_can_change(status: JobStatus) -> None:
    assert status == status.value
    assert JobStatus.from_wire(f" {status.value.lower()}\n") is status
    assert status.is_terminal == (status in TERMINAL)
    assert status.is_success == (status == "COMPLETED")


@pytest.mark.parametrize("word", ["NULL", "", "OK", "PAUSED", "is_terminal"])
def test_other_words_are_unknown(word: str) -> None:
    assert JobStatus.from_wire(word) is JobStatus.UNKNOWN


def test_failed_is_dead() -> None:
    assert JobStatus.from_wire("FAILED") is JobStatus.DEAD
