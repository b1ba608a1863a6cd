"""Output that an engine brings: in order, once, within the limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from titan_sdk.cluster.folders import DataDir
from titan_sdk.cluster.logs import FileLogs

CAP = 1024


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDir]:
    made = DataDir(tmp_path)
    yield made
    made.release()


@pytest.fixture
def logs(data: DataDir) -> FileLogs:
    return FileLogs(data, CAP)


async def test_output_sent_again_is_there_once(logs: FileLogs) -> None:
    assert await logs.append("j", "run1", 0, b"one\n") == 4
    assert await logs.append("j", "run1", 0, b"one\n") == 4
    assert await logs.append("j", "run1", 2, b"e\ntwo\n") == 8
    logs.note("j", "queued again")
    assert await logs.append("j", "run2", 0, b"next\n") == 5
    assert await logs.append("j", "run1", 4, b"two\n") == 8
    assert await logs.read("j") == "one\ntwo\n[titan] queued again\nnext\n"


async def test_a_gap_appends_nothing(logs: FileLogs) -> None:
    assert await logs.append("j", "run1", 0, b"one\n") == 4
    assert await logs.append("j", "run1", 5, b"later") == 4
    assert await logs.read("j") == "one\n"


async def test_over_the_limit_the_beginning_stays_and_the_rest_counts_as_taken(logs: FileLogs) -> None:
    assert await logs.append("j", "run1", 0, b"x" * 800) == 800
    assert await logs.append("j", "run1", 800, b"y" * 5000) == 5800
    assert await logs.append("j", "run1", 5800, b"z" * 5000) == 10800
    text = await logs.read("j")
    assert text.startswith("x" * 800 + "y" * 224 + "\n[titan] the log has reached its limit of 1,024 bytes")


async def test_a_used_id_starts_afresh_and_a_removed_log_is_gone(logs: FileLogs, data: DataDir) -> None:
    await logs.append("j", "run1", 0, b"old")
    logs.drop("j")
    logs.drop("never seen")
    assert await logs.read("j") == ""
    assert await logs.append("j", "run1", 0, b"new") == 3
    logs.drop("j")
    assert list(data.logs.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        await logs.read_range("j", 0, 10)


async def test_an_append_that_a_master_did_not_finish_is_made_good_by_the_next(
    logs: FileLogs, data: DataDir
) -> None:
    await logs.append("j", "run1", 0, b"whole\n")
    await logs.append("j", "run1", 6, b"cut off\n")
    os.truncate(data.log_file("j"), 9)  # as if it had died while these bytes were written
    again = FileLogs(data, CAP)
    assert await again.append("j", "run1", 14, b"too early") == 6
    assert await again.append("j", "run1", 6, b"cut off\n") == 14
    assert await again.read("j") == "whole\ncut off\n"


async def test_a_mark_that_a_power_cut_has_emptied_loses_no_output(logs: FileLogs, data: DataDir) -> None:
    assert await logs.append("a", "1", 0, b"one\n") == 4
    (mark,) = data.logs.glob("*.received")
    mark.write_bytes(b"")
    assert await logs.append("a", "1", 4, b"two\n") == 0  # the sender begins again
    assert await logs.append("a", "1", 0, b"one\ntwo\n") == 8
    assert (await logs.read("a")).endswith("one\ntwo\n")
