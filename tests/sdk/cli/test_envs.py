"""titan envs, and the packages of titan submit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.wheels import make_wheel, served
from titan_sdk.runtime.worker import environments

BLOCK = "# /// script\n# dependencies = []\n# ///\nprint('ran')\n"


def test_environments_are_listed_and_removed(titan, script, tmp_path, monkeypatch) -> None:
    """Those of the session's workers, which are in the session's folder."""
    before = {row["digest"] for row in titan("envs", "list", "--json").json["environments"]}
    make_wheel(tmp_path / "wheels", "demo", "4.2")
    with served(tmp_path / "wheels") as url:
        lines = ["--no-index", f"--find-links {url}", "demo"]
        words = [word for line in lines for word in ("--with", line)]
        ran = titan("submit", script("import demo; print(demo.VERSION)"), "--wait", "--follow", *words)
    assert ran.code == 0, ran.err
    assert "\n4.2\n" in ran.out
    answer = titan("envs", "list", "--json").json
    (row,) = [row for row in answer["environments"] if row["digest"] not in before]
    assert row["requirements"][-1] == "demo"
    assert row["in_use"] is False
    listed = titan("envs", "list").out
    assert row["digest"][:8] in listed

    used, _ = environments.hold(answer["folder"], row["digest"])
    ran = titan("envs", "rm", row["digest"][:10])
    environments.os.close(used)
    assert ran.code == 2
    assert "a job uses it" in ran.err
    assert titan("envs", "rm", row["digest"], "--json").json["removed"] == [row["digest"]]
    assert titan("envs", "rm", row["digest"]).code == 2


def test_pruning(bare, script, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TITAN_RUNTIME_ENVIRONMENTS", str(tmp_path / "environments"))
    assert bare("envs", "list").out == f"there is no environment in {tmp_path / 'environments'}\n"
    for number in range(2):
        path = tmp_path / "environments" / f"{number:032x}-12345678"
        (path / "bin").mkdir(parents=True)
        (path / "bin" / "python").touch()
        (path / environments.FACTS).write_text(
            '{"bytes": 1048576, "requirements": ["a", "b", "c", "d", "e"]}'
        )
        path.with_name(f"{number:032x}").symlink_to(path.name)
        (tmp_path / "environments" / f"{number:032x}.use").touch()
    assert "a, b, c, d and 1 more" in bare("envs", "list").out
    assert bare("envs", "prune").out == "nothing was removed\n"
    assert bare("envs", "prune", "--max-size", 1).out == "removed 1 environments, 1.0 MiB\n"
    assert bare("envs", "prune", "--max-age", "0s").out == "removed 1 environments, 1.0 MiB\n"
    assert "no environment begins with 'ab'" in bare("envs", "rm", "ab").err


def test_packages_come_from_a_file_or_from_words(titan, script, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("numpy\n")
    ran = titan("submit", script(BLOCK), "--requirements", tmp_path / "r.txt", "--with", "pandas")
    assert ran.code == 2
    assert "give the file, or the packages" in ran.err
    assert "no requirements file" in titan("submit", script(BLOCK), "--requirements", "absent.txt").err


@pytest.mark.parametrize("place", ["", "/proc/nowhere"])
def test_no_place_for_environments(bare, monkeypatch, place: str) -> None:
    monkeypatch.setenv("TITAN_RUNTIME_ENVIRONMENTS", place)
    for name in ("TITAN_RUNTIME_CACHE", "XDG_CACHE_HOME", "TMPDIR"):
        monkeypatch.setenv(name, "/proc/nowhere")
    ran = bare("envs", "list")
    assert ran.code == 2
    assert "set TITAN_RUNTIME_ENVIRONMENTS" in ran.err
