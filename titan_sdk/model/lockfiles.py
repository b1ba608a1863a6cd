"""Parsers of lock files, project files and script blocks. They take texts and return ``Requirements``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from titan_sdk.errors import InvalidArgument
from titan_sdk.model.requirements import Requirements, check_python, distinct, read_lines

__all__ = ["read_pylock", "read_pyproject", "read_script_block", "read_uv_lock"]

_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_LOCAL = "is a folder of this machine, which workers cannot see; build a wheel and put it on an index"


def read_script_block(name: str, content: bytes) -> Requirements | None:
    """The requirements in the block at the head of a Python script (PEP 723); ``None`` if there is no block.

    Raises:
        InvalidArgument: the block, or a requirement in it, cannot be read.
    """
    if b"# /// script" not in content:
        return None
    # Python, too, passes over a byte order mark.
    text = content.decode("utf-8-sig", "replace").replace("\r\n", "\n")
    blocks = [found for found in _BLOCK.finditer(text) if found["type"] == "script"]
    if not blocks:
        return None
    if len(blocks) > 1:
        raise InvalidArgument(f"{name}: there are {len(blocks)} script blocks; keep one")
    lines = blocks[0]["content"].splitlines(keepends=True)
    table = _toml(
        f"{name}, its script block",
        "".join(line[2:] if line.startswith("# ") else line[1:] for line in lines),
    )
    return _project(f"{name}, its script block", table, table)


def read_pyproject(name: str, text: str) -> Requirements:
    """The project's dependencies in a ``pyproject.toml``, without extras and groups.

    Raises:
        InvalidArgument: there is no ``[project]`` table, its dependencies are dynamic, or pip cannot read them.
    """
    document = _toml(name, text)
    table = document.get("project")
    if not isinstance(table, dict):
        raise InvalidArgument(f"{name}: there is no [project] table; give a requirements.txt or a list")
    if "dependencies" in table.get("dynamic", ()):
        raise InvalidArgument(
            f"{name}: its dependencies are dynamic, which only its build tool can read; give a lock file"
        )
    return _project(f"{name}, [project]", table, document)


def _project(where: str, table: Mapping[str, Any], document: Mapping[str, Any]) -> Requirements:
    listed = table.get("dependencies", [])
    if not isinstance(listed, list) or not all(isinstance(line, str) for line in listed):
        raise InvalidArgument(f"{where}: dependencies is not a list of texts")
    lines = read_lines((f"{where}, dependencies", line) for line in listed)
    sources = _table(_table(document.get("tool")).get("uv")).get("sources")
    names = {re.split(r"[\[ ;<>=!~@]", line)[0] for line in lines}
    for name in _table(sources):
        if re.sub(r"[-_.]+", "-", name).lower() in names:
            raise InvalidArgument(
                f"{where}: [tool.uv.sources] says where {name!r} comes from, which pip cannot read; write it as "
                f"'{name} @ URL', or give the uv.lock"
            )
    return Requirements(distinct(lines), python=_python(where, table))


def read_pylock(name: str, text: str) -> Requirements:
    """The packages that a ``pylock.toml`` pins (PEP 751). They come from the worker's index; the hashes must match.

    Raises:
        InvalidArgument: a package in it cannot travel.
    """
    document = _toml(name, text)
    lines: list[tuple[str, str]] = []
    for package in _packages(name, document, "packages"):
        where = f"{name}, package {package['name']!r}"
        marker = str(package.get("marker", ""))
        if re.search(r"\bextras\b|\bdependency_groups\b", marker):
            raise InvalidArgument(f"{where}: it is for an extra or a group only; lock without those")
        if "directory" in package:
            if _table(package["directory"]).get("path") in {".", "./"}:
                continue
            raise InvalidArgument(f"{where}: it {_LOCAL}")
        line = _pinned_source(package) or _pinned(where, package, _pylock_hashes(package))
        lines.append((where, _marked(line, marker)))
    return Requirements(distinct(read_lines(lines)), locked=True, python=_python(name, document))


def _pylock_hashes(package: Mapping[str, Any]) -> Iterator[str]:
    for file in [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]:
        digest = _table(_table(file).get("hashes")).get("sha256")
        if digest:
            yield f"sha256:{digest}"


def _pinned_source(package: Mapping[str, Any]) -> str | None:
    if "vcs" in package:
        vcs = _table(package["vcs"])
        folder = f"#subdirectory={vcs['subdirectory']}" if vcs.get("subdirectory") else ""
        return f"{package['name']} @ {vcs.get('type', 'git')}+{vcs.get('url', '')}@{vcs.get('commit-id')}{folder}"
    if "archive" in package:
        archive = _table(package["archive"])
        digest = _table(archive.get("hashes")).get("sha256")
        return f"{package['name']} @ {archive.get('url', '')}" + (
            f" --hash=sha256:{digest}" if digest else ""
        )
    return None


def _pinned(where: str, package: Mapping[str, Any], hashes: Iterator[str]) -> str:
    if not package.get("version"):
        raise InvalidArgument(f"{where}: it has no version; lock it again")
    found = "".join(f" --hash={value}" for value in hashes)
    return f"{package['name']}=={package['version']}{found}"


def _marked(line: str, marker: str) -> str:
    head, mark, hashes = line.partition(" --hash=")
    return f"{head} ; {marker}{mark}{hashes}" if marker else line


# ---------------------------------------------------------------------- uv.lock

_All = frozenset({frozenset[str]()})
_Node = tuple[int, str]


def read_uv_lock(name: str, text: str) -> Requirements:
    """The packages that a ``uv.lock`` pins for the project beside it, without extras and development groups.

    Raises:
        InvalidArgument: a package in it cannot travel.
    """
    document = _toml(name, text)
    packages = list(_packages(name, document, "package"))
    roots = [index for index, package in enumerate(packages) if _is_root(package)]
    if not roots:
        raise InvalidArgument(
            f"{name}: it names no project of its own; give a requirements.txt or a pylock.toml"
        )
    lines: list[tuple[str, str]] = []
    for index, paths in _reached(name, packages, roots).items():
        package = packages[index]
        if index in roots:
            continue
        where = f"{name}, package {package['name']!r}"
        source = _table(package.get("source"))
        if {"directory", "editable", "path", "virtual"} & set(source):
            raise InvalidArgument(f"{where}: it {_LOCAL}")
        files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
        hashes = [str(file["hash"]) for file in files if _table(file).get("hash")]
        if "git" in source or "url" in source:
            line = f"{package['name']} @ {_uv_url(source)}" + (
                "".join(f" --hash={value}" for value in hashes) if "url" in source else ""
            )
        else:
            line = _pinned(where, package, iter(hashes))
        lines.append((where, _marked(line, _either(paths))))
    return Requirements(distinct(read_lines(lines)), locked=True, python=_python(name, document))


def _is_root(package: Mapping[str, Any]) -> bool:
    source = _table(package.get("source"))
    return "." in {source.get("editable"), source.get("virtual"), source.get("directory")}


def _uv_url(source: Mapping[str, Any]) -> str:
    if "url" in source:
        return str(source["url"])
    address, _, commit = str(source["git"]).partition("#")
    plain, _, query = address.partition("?")
    folder = re.search(r"subdirectory=([^&]+)", query)
    return f"git+{plain}@{commit}" + (f"#subdirectory={folder[1]}" if folder else "")


def _reached(
    name: str, packages: list[dict[str, Any]], roots: list[int]
) -> dict[int, frozenset[frozenset[str]]]:
    """The needed packages with their markers. A package has alternative sets of markers; in one set, all must hold."""
    by_name: dict[str, list[int]] = {}
    for index, package in enumerate(packages):
        by_name.setdefault(str(package["name"]), []).append(index)
    found: dict[_Node, frozenset[frozenset[str]]] = {(root, ""): _All for root in roots}
    waiting = list(found)
    while waiting:
        node = waiting.pop()
        package, extra = packages[node[0]], node[1]
        edges = (
            _table(package.get("optional-dependencies")).get(extra, ())
            if extra
            else package.get("dependencies", ())
        )
        for edge in edges:
            marker = {str(edge["marker"])} if edge.get("marker") else set()
            paths = frozenset(path | marker for path in found[node])
            for target in _targets(name, packages, by_name, edge):
                for extra_of in ("", *edge.get("extra", ())):
                    before = found.get((target, extra_of), frozenset())
                    after = _shortest(before | paths)
                    if after != before:
                        found[target, extra_of] = after
                        waiting.append((target, extra_of))
    needed: dict[int, frozenset[frozenset[str]]] = {}
    for (index, _), paths in found.items():
        needed[index] = _shortest(needed.get(index, frozenset()) | paths)
    return needed


def _targets(
    name: str, packages: list[dict[str, Any]], by_name: Mapping[str, list[int]], edge: Mapping[str, Any]
) -> list[int]:
    """The packages that match a dependency. There are several if the lock file has several versions of the package."""
    found = [
        index
        for index in by_name.get(str(edge.get("name")), ())
        if edge.get("version") in {None, packages[index].get("version")}
        and edge.get("source") in (None, packages[index].get("source"))
    ]
    if len(found) != 1:
        raise InvalidArgument(f"{name}: it does not say which {edge.get('name')!r} is meant; lock it again")
    return found


def _shortest(paths: frozenset[frozenset[str]]) -> frozenset[frozenset[str]]:
    """The alternatives, without those that contain a smaller one."""
    return frozenset(path for path in paths if not any(other < path for other in paths))


def _either(paths: frozenset[frozenset[str]]) -> str:
    if paths == _All:
        return ""
    alternatives = sorted(" and ".join(f"({marker})" for marker in sorted(path)) for path in paths)
    return " or ".join(f"({text})" if len(alternatives) > 1 else text for text in alternatives)


# ---------------------------------------------------------------------- shared


def _toml(where: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise InvalidArgument(f"{where}: it is no TOML: {exc}") from exc


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _packages(name: str, document: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    found = document.get(key)
    if not isinstance(found, list):
        raise InvalidArgument(f"{name}: it is no lock file: there is no [[{key}]]")
    for package in found:
        if not isinstance(package, dict) or not isinstance(package.get("name"), str):
            raise InvalidArgument(f"{name}: it is no lock file: a [[{key}]] has no name")
        yield package


def _python(where: str, table: Mapping[str, Any]) -> str | None:
    wanted = table.get("requires-python")
    return None if wanted is None else check_python(where, wanted)
