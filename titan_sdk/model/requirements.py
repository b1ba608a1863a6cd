"""The packages of a job, as lines that uv and pip both read. They are checked before the submit, because an error on a
worker comes late. This module takes texts; ``flows/requirements.py`` reads the files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from titan_sdk.errors import InvalidArgument

__all__ = ["Requirements", "check_python", "looks_like_package", "merge_lines", "read_line", "read_lines"]

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_LINE = re.compile(rf"(?P<name>{_NAME})\s*(?:\[(?P<extras>[^\]]*)\])?\s*(?P<rest>.*)", re.DOTALL)
_VERSION = r"[vV]?\d[A-Za-z0-9.!+*_-]*"
_CLAUSE = re.compile(rf"(~=|===|==|!=|<=|>=|<|>)\s*({_VERSION})")
_PYTHON_CLAUSE = re.compile(r"(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*(?:\.\*)?)")
_URL = re.compile(r"(?:(?:git|hg|svn|bzr)\+)?[a-z][a-z0-9.-]*://\S+")
_HASH = re.compile(r"--hash[= ](sha(?:256|384|512):[0-9a-f]{64,128})")
_MARKER_WORD = re.compile(
    r"\s*(?:(?P<value>'[^']*'|\"[^\"]*\"|os_name|sys_platform|platform_\w+|python_version|python_full_version|"
    r"implementation_name|implementation_version|extra)|(?P<op>===|==|~=|!=|<=|>=|<|>|not\s+in\b|in\b)|"
    r"(?P<joint>and\b|or\b)|(?P<bracket>[()]))"
)
_USERINFO = re.compile(r"://([^/\s@]*@)+")
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_TAGS = frozenset({"GENERAL", "GPU", "HIGH_MEM"})
_PLAIN_OPTIONS = frozenset({"--pre", "--no-index", "--require-hashes"})
_URL_OPTIONS = {"-i": "--index-url", "-f": "--find-links"}
_VALUE_OPTIONS = frozenset(
    {"--index-url", "--extra-index-url", "--find-links", "--no-binary", "--only-binary"}
)
_PATH = re.compile(r"[./~]|[A-Za-z]:\\|\S*[/\\]|\S+\.(?:whl|tar\.gz|zip)$")
_ON_AN_INDEX = (
    "Workers cannot see this machine's files: build a wheel and put it on an index, or into a folder that "
    "PIP_FIND_LINKS or UV_FIND_LINKS names on the workers"
)


@dataclass(frozen=True, slots=True)
class Requirements:
    """The packages of an environment. Equal requirements make the same environment."""

    lines: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    locked: bool = False
    """Whether the lines name every package to install."""
    python: str | None = None
    """The accepted versions of Python, such as ``>=3.11``."""

    def to_dict(self) -> dict[str, object]:
        """The fields that are set."""
        fields: dict[str, object] = {"lines": list(self.lines)}
        if self.constraints:
            fields["constraints"] = list(self.constraints)
        if self.locked:
            fields["locked"] = True
        if self.python:
            fields["python"] = self.python
        return fields


def read_lines(
    items: Iterable[tuple[str, str]], include: Callable[[str, str, str], None] | None = None
) -> list[str]:
    """The lines in normal form, each once.

    Args:
        items: pairs of a line's place, for error messages, and the line.
        include: called for ``-r`` and ``-c`` lines, with the place, the option and the path of the other file.

    Raises:
        InvalidArgument: a line is not a requirement, or cannot travel. The sentence names the place, the reason and the
            fix.
    """
    found: dict[str, None] = {}
    for where, text in items:
        line = text.strip()
        if not line:
            continue
        other = re.fullmatch(r"(-r|-c|--requirement|--constraint)[= ]?\s*(\S+)", line)
        if other is None:
            found[read_line(where, line)] = None
        elif include is None:
            raise InvalidArgument(
                f"{where}: {line!r} is no package; give the file's path: requirements={other[2]!r}"
            )
        else:
            include(where, "-c" if "c" in other[1][:3] else "-r", other[2])
    return list(found)


def merge_lines(name: str, text: str) -> Iterator[tuple[str, str]]:
    """The lines of a requirements file, each with its place. Comments are removed, and continued lines joined."""
    held, begun = "", 0
    for number, raw in enumerate(text.removeprefix("﻿").splitlines(), 1):
        begun = begun or number
        line = re.sub(r"(^|\s)#.*$", "", raw)
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        yield f"{name}, line {begun}", held + line
        held, begun = "", 0
    if held:
        yield f"{name}, line {begun}", held


def read_line(where: str, line: str) -> str:
    """One requirement or option of pip, in normal form. Raises InvalidArgument."""
    if "\n" in line or "\0" in line:
        raise InvalidArgument(f"{where}: {line!r} is more than one line; give a list of lines")
    if line.startswith("-"):
        return _option(where, line)
    hashes = sorted(set(_HASH.findall(line)))
    bare = _HASH.sub("", line).strip()
    if " --" in bare:
        raise InvalidArgument(
            f"{where}: {line!r} has an option that belongs to one installer; leave {bare[bare.index(' --') + 1 :]!r} out"
        )
    return " ".join([_requirement(where, bare), *(f"--hash={value}" for value in hashes)])


def _requirement(where: str, line: str) -> str:
    if _URL.fullmatch(line.partition(" ;")[0].strip()):
        return _with_marker(where, line, *_parted(line, " ;"), _url)
    if _PATH.match(line) and "@" not in line:
        raise InvalidArgument(f"{where}: {line!r} is a path on this machine. {_ON_AN_INDEX}")
    found = _LINE.fullmatch(line)
    if found is None:
        raise InvalidArgument(f"{where}: {line!r} is no requirement; write one such as 'numpy>=2.1,<3'")
    if line in _TAGS:
        raise InvalidArgument(
            f"{where}: {line!r} is a worker's tag, which requirement={line!r} asks for; requirements= lists packages"
        )
    name = _canonical(found["name"])
    if found["extras"] is not None:
        extras = sorted({_canonical(extra.strip()) for extra in found["extras"].split(",")})
        if not all(re.fullmatch(_NAME, extra) for extra in extras):
            raise InvalidArgument(f"{where}: {line!r} has extras that cannot be read; write 'name[one,two]'")
        name += f"[{','.join(extras)}]"
    rest = found["rest"]
    if rest.startswith("@"):
        url, marker = _parted(rest[1:], " ;")
        return _with_marker(where, line, url, marker, lambda place, text: f"{name} @ {_url(place, text)}")
    clauses, marker = _parted(rest, ";")
    return _with_marker(where, line, clauses, marker, lambda place, text: name + _clauses(place, line, text))


def _parted(text: str, mark: str) -> tuple[str, str | None]:
    head, found, marker = text.partition(mark)
    return head.strip(), marker.strip() if found else None


def _with_marker(
    where: str, line: str, head: str, marker: str | None, read: Callable[[str, str], str]
) -> str:
    text = read(where, head)
    if marker is None:
        return text
    if not _is_marker(marker):
        raise InvalidArgument(
            f"{where}: {line!r} has a marker that cannot be read; write one such as \"; python_version < '3.12'\""
        )
    return f"{text} ; {' '.join(marker.split())}"


def _clauses(where: str, line: str, text: str) -> str:
    inner = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    if not inner.strip():
        return ""
    found = [_CLAUSE.fullmatch(part.strip()) for part in inner.split(",")]
    if not all(found):
        raise InvalidArgument(
            f"{where}: {line!r} is no requirement: {inner!r} is no list of versions; write '==2.1', or '>=2,<3'"
        )
    return ",".join(sorted(part[1] + part[2] for part in found if part))


def _url(where: str, url: str) -> str:
    if not _URL.fullmatch(url):
        raise InvalidArgument(f"{where}: {url!r} is no URL. {_ON_AN_INDEX}")
    if "file://" in url:
        raise InvalidArgument(f"{where}: {url!r} is a file. {_ON_AN_INDEX}")
    _check_secrets(where, url)
    return url


def _check_secrets(where: str, text: str) -> None:
    """Refuse passwords in URLs, because everybody who reaches the master can read a job's requirements."""
    for found in _USERINFO.finditer(text):
        userinfo = found[0][3:-1]
        names_only = not _VARIABLE.sub("", userinfo).strip(":")
        if not names_only and not (text[: found.start()].endswith("ssh") and ":" not in userinfo):
            raise InvalidArgument(
                f"{where}: {_masked(text)!r} holds a user or password, which anybody who reaches the master could read. Set "
                "the index on the workers (PIP_INDEX_URL, UV_INDEX_URL, pip.conf, .netrc), or write '${NAME}' for a "
                "variable of the workers"
            )


def _masked(text: str) -> str:
    return _USERINFO.sub("://****@", text)


def _option(where: str, line: str) -> str:
    name, _, value = line.replace("=", " ", 1).partition(" ") if line.startswith("--") else _short(line)
    value = value.strip()
    name = _URL_OPTIONS.get(name, name)
    if name in {"-e", "--editable"}:
        raise InvalidArgument(
            f"{where}: {line!r} installs from a folder of this machine, which workers cannot see: send the folder as "
            "the job's code, or build a wheel and put it on an index"
        )
    if name in _PLAIN_OPTIONS and not value:
        return name
    if name not in _VALUE_OPTIONS or not value:
        raise InvalidArgument(
            f"{where}: {line!r} is an option that a job cannot bring; leave it out, or set it on the workers (pip.conf, "
            "PIP_*, UV_*)"
        )
    if "binary" not in name:
        _url(where, value)
    elif not re.fullmatch(r"[A-Za-z0-9:._-]+(,[A-Za-z0-9:._-]+)*", value):
        raise InvalidArgument(
            f"{where}: {name} takes ':all:', ':none:' or names of packages, not {_masked(value)!r}"
        )
    return f"{name} {value}"


def _short(line: str) -> tuple[str, str, str]:
    return line[:2], "", line[2:]


def _is_marker(text: str) -> bool:
    """Whether the text is a marker as the packaging standard defines it."""
    words, place = [], 0
    while place < len(text.rstrip()):
        found = _MARKER_WORD.match(text, place)
        if found is None:
            return False
        words.append(found.lastgroup if found.lastgroup != "bracket" else found["bracket"])
        place = found.end()
    shape = " ".join(map(str, words))
    while True:
        shorter = re.sub(r"\bvalue op value\b|\( term \)|\bterm joint term\b", "term", shape)
        if shorter == shape:
            return shape == "term"
        shape = shorter


def check_python(where: str, text: object) -> str:
    """A ``requires-python`` in normal form. Raises InvalidArgument."""
    found = [_PYTHON_CLAUSE.fullmatch(part.strip()) for part in str(text).split(",") if part.strip()]
    if not found or not all(found):
        raise InvalidArgument(f"{where}: requires-python {text!r} cannot be read; write one such as '>=3.11'")
    return ",".join(sorted(part[1] + part[2] for part in found if part))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def looks_like_package(text: str) -> bool:
    """Whether a text looks like a package, where a tag or a path is expected."""
    if text in _TAGS:
        return False
    try:
        return read_line("", text) != "" and not text.startswith("-")
    except InvalidArgument:
        return False


def distinct(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines in their fixed order: first the options as given, because their order matters, then the packages by name."""
    options = [line for line in dict.fromkeys(lines) if line.startswith("-")]
    return (*options, *sorted({line for line in lines if not line.startswith("-")}))
