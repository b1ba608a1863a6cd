from __future__ import annotations

import pytest

from titan_sdk.errors import InvalidArgument
from titan_sdk.model.lockfiles import read_pylock, read_pyproject, read_script_block, read_uv_lock
from titan_sdk.model.requirements import Requirements

A, B = "a" * 64, "b" * 64

BLOCK = """#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "NumPy >= 2",  # arrays
#
#   "pandas",
# ]
# ///
print(1)
"""


def test_the_block_at_the_head_of_a_script() -> None:
    wanted = Requirements(("numpy>=2", "pandas"), python=">=3.11")
    assert read_script_block("s.py", BLOCK.encode()) == wanted
    assert read_script_block("s.py", BLOCK.replace("\n", "\r\n").encode()) == wanted
    assert read_script_block("s.py", BLOCK.partition("\n")[2].encode("utf-8-sig")) == wanted
    assert read_script_block("s.py", b"# /// script\n# dependencies = []\n# ///\n") == Requirements(())
    assert read_script_block("s.py", b"print('# /// scripts')") is None
    assert read_script_block("s.py", b"# /// script\nprint(1)\n") is None
    assert read_script_block("s.py", b"print(2)") is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (BLOCK + BLOCK, r"^s\.py: there are 2 script blocks; keep one"),
        ("# /// script\n# dependencies = [\n# ///\n", r"^s\.py, its script block: it is no TOML"),
        ("# /// script\n# dependencies = 'a'\n# ///\n", r"dependencies is not a list of texts"),
        ("# /// script\n# dependencies = [1]\n# ///\n", r"dependencies is not a list of texts"),
        (
            "# /// script\n# dependencies = ['a=1']\n# ///\n",
            r"^s\.py, its script block, dependencies: 'a=1' is no",
        ),
        (
            "# /// script\n# dependencies = ['my-lib']\n# [tool.uv.sources]\n# My_Lib = {path = '.'}\n# ///\n",
            r"\[tool.uv.sources\] says where 'My_Lib' comes from",
        ),
    ],
)
def test_a_block_that_cannot_be_read(content: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        read_script_block("s.py", content.encode())


def test_a_pyproject() -> None:
    text = "[project]\nname='x'\nrequires-python='>=3.10'\ndependencies=['b','a>=1']\n[tool.uv.sources]\nc={path='.'}\n"
    assert read_pyproject("pyproject.toml", text) == Requirements(("a>=1", "b"), python=">=3.10")
    assert read_pyproject("pyproject.toml", "[project]\nname='x'\n[tool]\nuv=1\n") == Requirements(())
    for wrong, problem in (
        ("[tool.x]\n", r"there is no \[project\] table"),
        ("[project]\ndynamic=['dependencies']\n", r"its dependencies are dynamic"),
        ("[project\n", r"^pyproject\.toml: it is no TOML"),
    ):
        with pytest.raises(InvalidArgument, match=problem):
            read_pyproject("pyproject.toml", wrong)


PYLOCK = f"""
lock-version = "1.0"
requires-python = ">=3.11"
[[packages]]
name = "numpy"
version = "2.1.0"
marker = "sys_platform == 'linux'"
sdist = {{url = "https://host.example/numpy.tar.gz", hashes = {{sha256 = "{B}"}}}}
[[packages.wheels]]
url = "https://host.example/numpy.whl"
hashes = {{sha256 = "{A}"}}
[[packages.wheels]]
url = "https://host.example/other.whl"
[[packages]]
name = "mine"
directory = {{path = "."}}
[[packages]]
name = "repo"
vcs = {{type = "git", url = "https://host.example/repo", commit-id = "abc", subdirectory = "py"}}
[[packages]]
name = "repo2"
vcs = {{url = "https://host.example/repo2", commit-id = "def"}}
[[packages]]
name = "archived"
archive = {{url = "https://host.example/a.zip", hashes = {{sha256 = "{A}"}}}}
[[packages]]
name = "archived2"
archive = {{url = "https://host.example/b.zip"}}
"""


def test_a_pylock() -> None:
    assert read_pylock("pylock.toml", PYLOCK) == Requirements(
        (
            f"archived @ https://host.example/a.zip --hash=sha256:{A}",
            "archived2 @ https://host.example/b.zip",
            f"numpy==2.1.0 ; sys_platform == 'linux' --hash=sha256:{A} --hash=sha256:{B}",
            "repo @ git+https://host.example/repo@abc#subdirectory=py",
            "repo2 @ git+https://host.example/repo2@def",
        ),
        locked=True,
        python=">=3.11",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[[packages]]\nname='a'\nmarker=\"'x' in extras\"",
            "package 'a': it is for an extra or a group only",
        ),
        ("[[packages]]\nname='a'\ndirectory={path='lib'}", "package 'a': it is a folder of this machine"),
        ("[[packages]]\nname='a'\n", "package 'a': it has no version; lock it again"),
        ("[[packages]]\nversion='1'\n", r"a \[\[packages\]\] has no name"),
        ("packages=[1]\n", r"a \[\[packages\]\] has no name"),
        ("[project]\n", r"there is no \[\[packages\]\]"),
    ],
)
def test_a_pylock_that_cannot_travel(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        read_pylock("pylock.toml", text)


UV = f"""
version = 1
requires-python = ">=3.11"
[[package]]
name = "app"
version = "0.1"
source = {{ virtual = "." }}
dependencies = [
  {{ name = "one" }},
  {{ name = "two", marker = "sys_platform == 'linux'" }},
  {{ name = "web", extra = ["fast"] }},
  {{ name = "fork", version = "1.0", source = {{ registry = "https://i.example" }}, marker = "python_full_version < '3.12'" }},
  {{ name = "fork", version = "2.0", source = {{ registry = "https://i.example" }}, marker = "python_full_version >= '3.12'" }},
  {{ name = "gitted" }},
]
[package.dev-dependencies]
dev = [{{ name = "pytest" }}]
[[package]]
name = "one"
version = "1.0"
source = {{ registry = "https://i.example" }}
sdist = {{ url = "https://i.example/one.tar.gz", hash = "sha256:{B}" }}
wheels = [{{ url = "https://i.example/one.whl", hash = "sha256:{A}" }}, {{ url = "https://i.example/x.whl" }}]
dependencies = [{{ name = "shared", marker = "os_name == 'nt'" }}]
[[package]]
name = "two"
version = "2.0"
source = {{ registry = "https://i.example" }}
dependencies = [{{ name = "shared" }}, {{ name = "one" }}]
[[package]]
name = "shared"
version = "3.0"
source = {{ registry = "https://i.example" }}
[[package]]
name = "web"
version = "4.0"
source = {{ url = "https://i.example/web.whl" }}
wheels = [{{ url = "https://i.example/web.whl", hash = "sha256:{A}" }}]
[package.optional-dependencies]
fast = [{{ name = "fastlib" }}]
[[package]]
name = "fastlib"
version = "5.0"
source = {{ registry = "https://i.example" }}
[[package]]
name = "fork"
version = "1.0"
source = {{ registry = "https://i.example" }}
[[package]]
name = "fork"
version = "2.0"
source = {{ registry = "https://i.example" }}
[[package]]
name = "gitted"
version = "1"
source = {{ git = "https://h.example/g?rev=main&subdirectory=py#abc" }}
dependencies = [{{ name = "gitted2" }}]
[[package]]
name = "gitted2"
version = "1"
source = {{ git = "https://h.example/g2#def" }}
[[package]]
name = "pytest"
version = "9"
source = {{ registry = "https://i.example" }}
"""


def test_a_uv_lock() -> None:
    assert read_uv_lock("uv.lock", UV) == Requirements(
        (
            "fastlib==5.0",
            "fork==1.0 ; (python_full_version < '3.12')",
            "fork==2.0 ; (python_full_version >= '3.12')",
            "gitted @ git+https://h.example/g@abc#subdirectory=py",
            "gitted2 @ git+https://h.example/g2@def",
            f"one==1.0 --hash=sha256:{A} --hash=sha256:{B}",
            "shared==3.0 ; ((os_name == 'nt')) or ((sys_platform == 'linux'))",
            "two==2.0 ; (sys_platform == 'linux')",
            f"web @ https://i.example/web.whl --hash=sha256:{A}",
        ),
        locked=True,
        python=">=3.11",
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('{ virtual = "." }', '{ registry = "https://i.example" }', "it names no project of its own"),
        (
            '{ url = "https://i.example/web.whl" }',
            '{ editable = "lib" }',
            "'web': it is a folder of this machine",
        ),
        ('{ name = "gitted" },', '{ name = "absent" },', "does not say which 'absent' is meant"),
        ('{ name = "gitted" },', '{ name = "fork" },', "does not say which 'fork' is meant"),
    ],
)
def test_a_uv_lock_that_cannot_travel(old: str, new: str, problem: str) -> None:
    assert old in UV
    with pytest.raises(InvalidArgument, match=problem):
        read_uv_lock("uv.lock", UV.replace(old, new, 1))
