from __future__ import annotations

from pathlib import Path

import pytest

from titan_sdk.errors import InvalidJob, MissingFile
from titan_sdk.flows.requirements import requirements_of
from titan_sdk.model.job import TitanJob
from titan_sdk.model.requirements import Requirements

BLOCK = "# /// script\n# dependencies = ['numpy']\n# ///\n"


def read(job: TitanJob) -> tuple[Requirements | None, list[str]]:
    files: dict[str, bytes] = {}
    found = requirements_of(job, job.read_script(), files)
    return found, sorted(Path(name).name for name in files)


def job(**fields: object) -> TitanJob:
    return TitanJob("job", **{"source": "print(1)", **fields})  # type: ignore[arg-type]


def test_a_list_and_the_block_of_a_script() -> None:
    assert read(job()) == (None, [])
    assert read(job(requirements=["pandas", "NumPy"])) == (Requirements(("numpy", "pandas")), [])
    assert read(job(source=BLOCK)) == (Requirements(("numpy",)), [])
    assert read(job(source="#!/usr/bin/env python3\n" + BLOCK, filename="train")) == (
        Requirements(("numpy",)),
        [],
    )
    # The block is of Python scripts; a list in the job goes before it, and an empty one is none.
    assert read(job(source=BLOCK, filename="train.sh")) == (None, [])
    assert read(job(source=BLOCK, requirements=["pandas"])) == (Requirements(("pandas",)), [])
    assert read(job(source=BLOCK, requirements=[])) == (None, [])


def test_a_file_and_those_that_it_includes(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "requirements.txt").write_text("numpy\n-r more/gpu.txt\n-c limits.txt\n")
    (tmp_path / "more" / "gpu.txt").write_text("torch\n")
    (tmp_path / "limits.txt").write_text("torch<3\n")
    found = read(job(requirements=tmp_path / "requirements.txt"))
    assert found == (
        Requirements(("numpy", "torch"), ("torch<3",)),
        ["gpu.txt", "limits.txt", "requirements.txt"],
    )


def test_other_kinds_of_files(tmp_path: Path) -> None:
    for name, text in {
        "pylock.toml": "[[packages]]\nname='a'\nversion='1'\n",
        "pylock.gpu.toml": "[[packages]]\nname='a'\nversion='1'\n",
        "uv.lock": "[[package]]\nname='x'\nsource={virtual='.'}\ndependencies=[{name='a'}]\n"
        "[[package]]\nname='a'\nversion='1'\n",
    }.items():
        (tmp_path / name).write_text(text)
        assert read(job(requirements=str(tmp_path / name)))[0] == Requirements(("a==1",), locked=True)
    (tmp_path / "pyproject.toml").write_text("[project]\ndependencies=['a']\n")
    assert read(job(requirements=str(tmp_path / "pyproject.toml")))[0] == Requirements(("a",))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("numpy\n-r requirements.txt\n", "includes itself"),
        ("-r https://host.example/r.txt\n", "is not on this machine"),
        ("numpy\n\n-e .\n", r"requirements.txt, line 3: '-e \.' installs from a folder"),
        (b"\xff", "it is not UTF-8"),
    ],
)
def test_a_file_that_cannot_travel(tmp_path: Path, text: str | bytes, problem: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidJob, match=problem):
        read(job(requirements=path))


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("-r absent.txt\n")
    with pytest.raises(MissingFile, match=r"there is no requirements file '.*absent.txt'"):
        read(job(requirements=path))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"requirement": ["numpy"]},
            r"requirement \['numpy'\] is not a text; .* Packages go into requirements=",
        ),
        ({"requirement": "numpy==2"}, r"these go into requirements=\['numpy==2'\]"),
        ({"requirement": "requirements.txt"}, r"these go into requirements='requirements.txt'"),
        ({"requirements": "GPU"}, r"is a worker's tag, which requirement='GPU' asks for"),
        ({"requirements": ["GPU"]}, r"is a worker's tag, which requirement='GPU' asks for"),
        ({"requirements": "numpy"}, r"is a package, not a file; give a list: requirements=\['numpy'\]"),
        ({"requirements": ["-e ."]}, r"installs from a folder of this machine"),
        ({"requirements": [1]}, r"is not a list of texts such as 'numpy>=2'"),
        ({"requirements": 1}, r"is neither a list of packages nor the path of a file"),
        ({"requirements": ["numpy"], "runtime": False}, r"requirements .* needs the runtime"),
        ({"inherit_packages": True, "runtime": False}, r"inherit_packages True needs the runtime"),
        (
            {"requirements": ["numpy"], "job_type": "SERVICE", "port": 8000},
            r"requirements .* needs the runtime",
        ),
    ],
)
def test_a_job_refuses_what_is_no_listing_of_packages(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidJob, match=problem):
        job(**fields)


def test_a_job_misses_a_file_at_once() -> None:
    with pytest.raises(MissingFile, match=r"there is no requirements file 'absent.txt' \(current folder"):
        job(requirements="absent.txt")


def test_the_block_of_a_projects_entry(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "train.py").write_text(BLOCK)
    (tmp_path / "plain.py").write_text("print(1)\n")
    for fields in ({"filename": "package/train.py"}, {"module": "package.train"}):
        inside = TitanJob("job", project=tmp_path, **fields)  # type: ignore[arg-type]
        assert read(inside) == (Requirements(("numpy",)), ["train.py"])
    assert read(TitanJob("job", "plain.py", project=tmp_path)) == (None, [])
