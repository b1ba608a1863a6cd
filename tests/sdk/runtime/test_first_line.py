"""The first line of a script decides what runs it, as for a person who runs the file; without one its name does."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.runtime_bench import Bench


@pytest.mark.parametrize("name", ["job.sh", "job.py", "job", "job.txt"])
def test_the_options_of_a_shell_are_kept(bench: Bench, name: str) -> None:
    done = bench.run(bench.spec("#!/bin/bash -e\nfalse\necho 'went on'", name))
    assert (done.code, done.output) == (1, b"")


@pytest.mark.parametrize(
    ("line", "shell"),
    [
        ("#!/bin/sh", os.path.basename(os.path.realpath("/bin/sh"))),
        ("#! /usr/bin/env bash", "bash"),
        ("#!/usr/bin/env -S bash -u", "bash"),
        ("#!/bin/bash\r", "bash"),
    ],
)
def test_each_shell_runs_its_own(bench: Bench, line: str, shell: str) -> None:
    done = bench.run(bench.spec(f'{line}\nreadlink /proc/$$/exe; echo "$1"', "job.sh", argv=("a b",)))
    assert done.code == 0
    assert [os.path.basename(word) for word in done.output.decode().splitlines()] == [shell, "a b"]


def test_a_shell_that_the_worker_has_by_another_name_runs_its_script(bench: Bench, tmp_path: Path) -> None:
    zsh = tmp_path / "zsh"
    shutil.copy("/bin/sh", zsh)
    done = bench.run(bench.spec(f"#!{zsh} -e\nreadlink /proc/$$/exe; false; echo 'went on'", "job.sh"))
    assert (done.code, done.output) == (1, f"{zsh}\n".encode())


def test_a_program_that_the_worker_lacks_is_named(bench: Bench) -> None:
    spec = bench.spec("#!/opt/none/zsh -f\necho hello", "job.sh")
    done = bench.run(spec)
    assert done.code == 98
    assert (
        b"its first line names /opt/none/zsh, which this worker does not have; install it there"
        in done.output
    )


def test_a_text_without_a_first_line_is_run_by_its_name_and_else_by_sh(bench: Bench) -> None:
    assert bench.run(bench.spec("echo ${BASH_VERSION:+bash}", "job.sh")).output == b"bash\n"
    assert bench.run(bench.spec("print('python')", "job.py")).output == b"python\n"
    assert bench.run(bench.spec("echo hello", "job")).output == b"hello\n"


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("#!/usr/bin/env python3", 0),
        ("#!/usr/bin/python", 0),
        ("#!/usr/local/bin/python3 -O", 1),
        ("#!/usr/bin/env -S python3 -OO -u", 2),
        ("#!/usr/bin/env python3\r", 0),
    ],
)
@pytest.mark.parametrize("name", ["job.py", "job.sh", "job"])
def test_python_means_that_of_the_worker_with_the_lines_options(
    bench: Bench, line: str, flag: int, name: str
) -> None:
    source = f"{line}\nimport sys, titan_job\ntitan_job.result([sys.flags.optimize, sys.version_info[:2]])\nraise ValueError('noted')"
    spec = bench.spec(source, name)
    assert bench.run(spec).code == 1
    state = bench.state(spec)
    assert state.exception is not None
    assert state.exception.type == "ValueError"
    assert bench.result(spec)[0] == flag


def test_a_certain_python_runs_the_script_unless_the_job_names_one(bench: Bench, tmp_path: Path) -> None:
    own = tmp_path / "venv" / "bin" / "python3"
    own.parent.mkdir(parents=True)
    own.symlink_to(sys.executable)
    source = f"#!{own}\nimport sys, titan_job\ntitan_job.result(sys.executable)"
    spec = bench.spec(source)
    assert bench.run(spec).code == 0
    assert bench.result(spec) == str(own)
    spec = bench.spec(source, python=sys.executable)
    assert bench.run(spec).code == 0
    assert bench.result(spec) == sys.executable
    version = f"python3.{sys.version_info.minor}"
    (own.parent / version).symlink_to(sys.executable)
    spec = bench.spec(
        f"#!/usr/bin/env {version}\nimport sys, titan_job\ntitan_job.result(sys.executable)",
        env={"PATH": f"{own.parent}:{os.environ['PATH']}"},
    )
    assert bench.run(spec).code == 0
    assert bench.result(spec) == str(own.parent / version)


def test_an_option_that_shuts_our_runner_out_is_kept_too(bench: Bench, tmp_path: Path) -> None:
    done = bench.run(bench.spec(f"#!{sys.executable} -I\nimport sys; print(sys.flags.isolated)"))
    assert (done.code, done.output) == (0, b"1\n")
