"""A job that the kernel kills for lack of memory says so: in a real control group with a small limit."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime_bench import Bench
from titan_sdk.runtime.worker import out_of_memory

ROOT = Path("/sys/fs/cgroup")
LIMIT = 96 * 1024 * 1024
GREEDY = "held = bytearray(512 * 1024 * 1024)"


def settings() -> tuple[Path, dict[str, str]]:
    """Where memory groups are made here, and what to write in a new one so that it is small and does not swap."""
    if (ROOT / "memory" / "memory.limit_in_bytes").exists():
        return ROOT / "memory", {"memory.limit_in_bytes": str(LIMIT), "memory.swappiness": "0"}
    return ROOT, {"memory.max": str(LIMIT), "memory.swap.max": "0"}


@pytest.fixture
def group() -> Iterator[Path]:
    parent, values = settings()
    made = parent / f"titan-test-{secrets.token_hex(8)}"
    try:
        made.mkdir()
    except OSError as exc:
        pytest.skip(f"no control group can be made in {parent}, which takes root and a writable mount: {exc}")
    try:
        for name, value in values.items():
            try:
                (made / name).write_text(value)
            except OSError as exc:
                if "swap" not in name:
                    pytest.skip(f"a control group in {parent} takes no {name}: {exc}")
        yield made
    finally:
        made.rmdir()


@pytest.fixture
def inside(group: Path, tmp_path: Path) -> dict[str, str]:
    """Has the bash of a worker go into the group before it does anything."""
    entry = tmp_path / "enter.sh"
    entry.write_text(f"unset BASH_ENV\necho $$ > {group}/cgroup.procs\n")
    return {"BASH_ENV": str(entry)}


def test_the_script_itself(bench: Bench, inside: dict[str, str]) -> None:
    spec = bench.spec(f"print('begun', flush=True)\n{GREEDY}")
    assert bench.run(spec, **inside).code == 137
    state = bench.state(spec)
    assert (state.state, state.signal) == ("failed", "SIGKILL")
    assert bench.log(spec) == f"begun\ntitan-runtime: {state.reason}\n"
    assert state.reason is not None
    assert state.reason.startswith("it was ended by SIGKILL: the kernel has killed for lack of memory")


def test_a_program_that_a_shell_script_runs(bench: Bench, inside: dict[str, str]) -> None:
    spec = bench.spec(f"python3 -c '{GREEDY}'\nexit $?", "job.sh")
    assert bench.run(spec, **inside).code == 137
    state = bench.state(spec)
    assert (state.state, state.exit_code) == ("failed", 137)
    assert "the kernel has killed for lack of memory" in (state.reason or "")


def test_another_kill_in_such_a_group_is_not_taken_for_one(bench: Bench, inside: dict[str, str]) -> None:
    spec = bench.spec("import os\nos.kill(os.getpid(), 9)")
    assert bench.run(spec, **inside).code == 137
    assert "which the runtime did not send" in (bench.state(spec).reason or "")


@pytest.mark.parametrize(
    ("group", "counter"),
    [
        ("0::/user/one", "user/one/memory.events"),
        ("0::/outside/of/the/container", "memory.events"),
        ("3:cpuset:/\n4:cpu,memory:/one\n0::/", "memory/one/memory.oom_control"),
        ("4:memory:/docker/one", "memory/memory.oom_control"),
    ],
)
def test_where_the_kernel_counts(
    group: str, counter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layouts that the machine of these tests does not have; the files are as the kernel writes them."""
    groups, file = tmp_path / "self", tmp_path / "root" / counter
    groups.write_text(group + "\n")
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(out_of_memory, "_GROUPS", str(groups))
    monkeypatch.setattr(out_of_memory, "_ROOT", str(tmp_path / "root"))
    file.write_text("low 0\noom 2\noom_kill 1\noom_group_kill 0\n")
    kills = out_of_memory.OutOfMemoryKills()
    assert not kills.grew()
    file.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert kills.grew()
    file.unlink()
    assert not out_of_memory.OutOfMemoryKills().grew()
