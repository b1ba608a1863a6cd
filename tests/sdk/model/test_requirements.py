from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from titan_sdk.errors import InvalidArgument
from titan_sdk.model.requirements import (
    Requirements,
    check_python,
    distinct,
    looks_like_package,
    merge_lines,
    read_line,
    read_lines,
)

SHA = "a" * 64

READ = {
    "numpy": "numpy",
    "NumPy >= 2.1 , < 3": "numpy<3,>=2.1",
    "zope.interface_x==1.0": "zope-interface-x==1.0",
    "Pandas[Test, aws]~=2.2": "pandas[aws,test]~=2.2",
    "six (>=1.4)": "six>=1.4",
    "six ()": "six",
    "torch==2.5.1+cu124": "torch==2.5.1+cu124",
    "a===1.0": "a===1.0",
    "a==1.*": "a==1.*",
    "a; python_version<'3.12'": "a ; python_version<'3.12'",
    "a>1 ; (sys_platform == 'linux' and  extra not in \"x y\") or os_name != 'nt'": (
        "a>1 ; (sys_platform == 'linux' and extra not in \"x y\") or os_name != 'nt'"
    ),
    "a @ https://host.example/a-1.0-py3-none-any.whl": "a @ https://host.example/a-1.0-py3-none-any.whl",
    "A[b]@https://host.example/a.whl ; os_name=='posix'": "a[b] @ https://host.example/a.whl ; os_name=='posix'",
    "a @ git+ssh://git@github.com/o/a@v1": "a @ git+ssh://git@github.com/o/a@v1",
    "git+https://github.com/o/a@main#egg=a": "git+https://github.com/o/a@main#egg=a",
    "https://${TOKEN}@host.example/a.whl": "https://${TOKEN}@host.example/a.whl",
    f"a==1 --hash=sha256:{SHA} --hash sha256:{'0' * 64}": f"a==1 --hash=sha256:{'0' * 64} --hash=sha256:{SHA}",
    "--pre": "--pre",
    "-i https://host.example/simple": "--index-url https://host.example/simple",
    "-f https://host.example/wheels": "--find-links https://host.example/wheels",
    "--extra-index-url=https://${U}:${P}@host.example/simple": (
        "--extra-index-url https://${U}:${P}@host.example/simple"
    ),
    "--only-binary :all:": "--only-binary :all:",
}

REFUSED = {
    "numpy=1.2": "is no list of versions; write '==2.1'",
    "numpy 1.2": "is no list of versions",
    "numpy>1 <2": "is no list of versions",
    "numpy==": "is no list of versions",
    "numpy[a b]": "has extras that cannot be read",
    "numpy[]": "has extras that cannot be read",
    "!numpy": "is no requirement; write one such as",
    "numpy ; python_version": "has a marker that cannot be read",
    "numpy ; python_version < '3' and": "has a marker that cannot be read",
    "numpy ; moon == 'full'": "has a marker that cannot be read",
    "numpy ; (os_name == 'nt'": "has a marker that cannot be read",
    "a\nb": "is more than one line",
    "-e .": "installs from a folder of this machine, which workers cannot see",
    "--editable=./lib": "installs from a folder of this machine",
    "--trusted-host host.example": "is an option that a job cannot bring",
    "--pre yes": "is an option that a job cannot bring",
    "--index-url": "is an option that a job cannot bring",
    "--only-binary :all: --index-url https://me:hush@host.example/": "names of packages, not ':all: --index-url https://****@",
    "--no-binary a -e /lib": "takes ':all:', ':none:' or names of packages",
    "--find-links ./wheels": "is no URL. Workers cannot see this machine's files",
    "numpy --global-option=x": "belongs to one installer; leave '--global-option=x' out",
    ".": "is a path on this machine. Workers cannot see",
    "./lib": "is a path on this machine",
    "lib/a-1.0-py3-none-any.whl": "is a path on this machine",
    "a-1.0-py3-none-any.whl": "is a path on this machine",
    "a @ ./lib": "is no URL",
    "a @ file:///wheels/a.whl": "is a file. Workers cannot see",
    "a @ https://me:hush@host.example/a.whl": "'https://****@host.example/a.whl' holds a user or password",
    "--index-url https://token@host.example/simple": "holds a user or password",
    "a @ git+ssh://me:hush@host.example/a": "holds a user or password",
    "GPU": "is a worker's tag, which requirement='GPU' asks for",
}


@pytest.mark.parametrize("line", READ)
def test_a_requirement_has_one_form(line: str) -> None:
    assert read_line("here", line) == READ[line]
    assert read_line("here", READ[line]) == READ[line]


@pytest.mark.parametrize("line", REFUSED)
def test_what_no_worker_could_install_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read_line("file.txt, line 3", line)
    assert str(refused.value).startswith("file.txt, line 3: ")
    assert REFUSED[line] in str(refused.value)
    assert "hush" not in str(refused.value)


@given(st.text(max_size=40))
def test_any_text_is_read_once_and_for_all_or_refused(text: str) -> None:
    try:
        line = read_line("here", text.strip())
    except InvalidArgument:
        return
    assert read_line("here", line) == line


def test_a_file_is_read_line_by_line() -> None:
    text = (
        "﻿# packages\nnumpy>=2 \\\n  ,<3  # both\n\n-r more.txt\n-c limits.txt\n--requirement=x.txt\n"
        "a # one\nNumPy<3,>=2\nb \\"
    )
    asked: list[tuple[str, str, str]] = []
    lines = read_lines(merge_lines("r.txt", text), lambda *found: asked.append(found))
    assert lines == ["numpy<3,>=2", "a", "b"]
    assert asked == [
        ("r.txt, line 5", "-r", "more.txt"),
        ("r.txt, line 6", "-c", "limits.txt"),
        ("r.txt, line 7", "-r", "x.txt"),
    ]
    with pytest.raises(InvalidArgument, match=r"^r\.txt, line 2: 'no  good!'"):
        read_lines(merge_lines("r.txt", "a\nno \\\ngood!\n"))
    with pytest.raises(InvalidArgument, match=r"is no package; give the file's path: requirements='x.txt'"):
        read_lines([("requirements", "-r x.txt")])


def test_python_versions() -> None:
    assert check_python("here", ">=3.10, <3.14") == "<3.14,>=3.10"
    assert check_python("here", "==3.11.*") == "==3.11.*"
    for wrong in ("", "3.11", ">=three", 3):
        with pytest.raises(InvalidArgument, match=r"^here: requires-python .* write one such as '>=3.11'"):
            check_python("here", wrong)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("numpy", True), ("numpy>=2", True), ("GPU", False), ("--pre", False), ("a b", False)],
)
def test_what_looks_like_a_package(text: str, is_one: bool) -> None:
    assert looks_like_package(text) is is_one


def test_order_and_fields() -> None:
    assert distinct(["b", "--pre", "a", "b", "--no-index"]) == ("--pre", "--no-index", "a", "b")
    assert Requirements(("a",)).to_dict() == {"lines": ["a"]}
    whole = Requirements(("a",), ("b<2",), locked=True, python=">=3.11")
    assert whole.to_dict() == {"lines": ["a"], "constraints": ["b<2"], "locked": True, "python": ">=3.11"}
