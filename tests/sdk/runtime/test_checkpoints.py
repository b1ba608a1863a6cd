"""A checkpoint with two writers, as when an attempt that was given up for dead still runs beside the next one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from titan_sdk import TitanClient
from titan_sdk.cluster import LocalCluster
from titan_sdk.runtime.worker import artifacts, checkpoints, store

NONCE = "0123456789abcdef"
Attempt = Callable[..., checkpoints.Checkpoint]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster({"GENERAL": 1}) as running:
        yield running


@pytest.fixture
def attempt(
    cluster: LocalCluster, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Attempt]:
    """Makes attempts of one job that share a checkpoint."""
    monkeypatch.setenv("TITAN_KEEP_ALIVE", "1")
    masters = []

    def made(number: int, key: str | None = None) -> checkpoints.Checkpoint:
        master = store.StoreConnection(cluster.host, cluster.port)
        masters.append(master)
        store.persist(master.meet, deadline())
        assert master.trusted
        run = {"id": f"DAG-{request.node.name}", "nonce": NONCE, "attempt": str(number)}
        return checkpoints.Checkpoint(master, run, key, deadline)

    yield made
    for master in masters:
        for sock in master._kept:
            sock.close()


def deadline() -> Callable[[], float]:
    end = time.monotonic() + 60
    return lambda: end


def file(folder: Path, content: str) -> str:
    path = folder / f"of-{content}"
    path.write_text(content)
    return str(path)


def kept(attempt: checkpoints.Checkpoint, folder: Path) -> tuple[str, Any]:
    found = attempt.restore(str(folder / "restored"))
    assert found is not None
    return Path(found[0]).read_text(), found[1]


def meanwhile(monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[[], object]) -> None:
    """Do something once before the next transfer of a file."""
    original = getattr(artifacts, name)

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(artifacts, name, original)
        action()
        return original(*arguments)

    monkeypatch.setattr(artifacts, name, interrupted)


@pytest.mark.parametrize("key", [None, "titan:checkpoint:two-writers"])
def test_what_counts_is_there_whoever_else_writes(
    attempt: Attempt, cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    first, second = attempt(1, key), attempt(2, key)
    first.save(file(tmp_path, "one"), 1, str(tmp_path / "scratch"))
    meanwhile(monkeypatch, "send", lambda: second.save(file(tmp_path, "two"), 2, str(tmp_path / "scratch")))
    with pytest.raises(store.StoreError, match="two jobs that run at once need two keys"):
        first.save(file(tmp_path, "three"), 3, str(tmp_path / "scratch"))
    assert kept(attempt(3, key), tmp_path) == ("two", 2)
    second.remove()
    with TitanClient(cluster.host, cluster.port) as client:
        assert client.list_artifacts(contains="of-").items == ()


def test_an_earlier_attempt_does_not_take_the_training_back(attempt: Attempt, tmp_path: Path) -> None:
    first, second = attempt(1), attempt(2)
    first.save(file(tmp_path, "800"), 800, str(tmp_path / "scratch"))
    second.save(file(tmp_path, "900"), 900, str(tmp_path / "scratch"))
    with pytest.raises(store.StoreError):
        first.save(file(tmp_path, "801"), 801, str(tmp_path / "scratch"))
    assert kept(second, tmp_path) == ("900", 900)
    second.remove()


def test_state_that_is_put_during_a_checkpoint_is_kept(
    attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, puts = attempt(1), attempt(1)
    meanwhile(monkeypatch, "send", lambda: puts.put_state({"best": 0.9}))
    writes.save(file(tmp_path, "one"), 1, str(tmp_path / "scratch"))
    assert (kept(puts, tmp_path), puts.state()) == (("one", 1), {"best": 0.9})
    writes.remove()


def test_a_copy_is_of_the_newest_where_the_earlier_one_goes_meanwhile(
    attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, reads = attempt(1), attempt(1)
    writes.save(file(tmp_path, "one"), 1, str(tmp_path / "scratch"))
    meanwhile(
        monkeypatch, "receive", lambda: writes.save(file(tmp_path, "two"), 2, str(tmp_path / "scratch"))
    )
    assert kept(reads, tmp_path) == ("two", 2)
    writes.remove()
