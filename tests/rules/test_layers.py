"""The one-way rule of docs/architecture.md, read from the imports themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tests.rules.sources import Import, Source, imports, sources

BASE = {"errors", "config", "model", "_version", "runtime.values"}

INSIDE_RAY = "cluster.engines.ray.inside"
# Layer (first part of the name below titan_sdk, longest match first) -> layers it may import.
ALLOWED: dict[str, set[str]] = {
    "errors": BASE,
    "config": BASE,
    "_version": set(),
    "model": BASE,
    "wire.frames": {"errors"},
    "wire": BASE | {"wire", "wire.frames"},
    # Where a frame ends is all that a transport knows of the protocol.
    "transport": {"errors", "config", "transport", "wire.frames"},
    "archive": BASE,
    "session": BASE | {"wire"},
    "runtime.worker": set(),
    # How values are written and read; it travels with each job, so it knows nothing else.
    "runtime.values": {"runtime.values"},
    "values": BASE,
    # Which launcher this version has; the bundled master's workers have it, too.
    "runtime.bundle": set(),
    "runtime": BASE | {"wire", "wire.frames", "runtime", "runtime.bundle"},
    "flows": BASE
    | {"wire", "wire.frames", "runtime", "runtime.bundle", "archive", "session", "flows", "values"},
    "dashboard": BASE,
    "cluster": BASE
    | {"wire", "wire.frames", "cluster", "cluster.local", "runtime", "runtime.worker", "runtime.bundle"},
    # What LocalCluster(strict_titan=True) starts instead of the bundled master, built on its server and staging.
    "cluster.local": BASE | {"wire", "cluster", "strict"},
    "strict": BASE | {"wire", "wire.frames", "cluster", "runtime.worker", "strict"},
    # Runs in Ray's processes only: Ray may be imported there, and nothing outside imports from there.
    INSIDE_RAY: BASE | {"wire", "wire.frames", "cluster", "runtime.bundle", INSIDE_RAY},
    "cli": {"*"},
    "__main__": {"cli"},
}
# Everything else directly below titan_sdk belongs to the client layer.
CLIENT = set(ALLOWED) - {
    *("cluster", "cluster.local", "strict", INSIDE_RAY, "cli", "__main__", "runtime.worker")
} | {"client"}

NO_IO = {
    "socket",
    "asyncio",
    "time",
    "threading",
    "select",
    "selectors",
    "ssl",
    "subprocess",
    "http",
    "urllib",
}
PUBLIC_MODULES = {
    *("titan_sdk", "titan_sdk.errors", "titan_sdk.config", "titan_sdk.cluster", "titan_sdk.xcom"),
    *("titan_sdk.archive", "titan_sdk.values"),
}
THIRD_PARTY_OF = {
    "cli": {"typer", "click", "rich"},
    "dashboard": {"requests"},
    "model": {"yaml"},
    "archive": {"pathspec"},
    "cluster": {"prometheus_client", "redis", "fsspec"},
    INSIDE_RAY: {"ray"},
}

SDK = tuple(sorted(sources("titan_sdk"), key=lambda source: source.module))
PROVIDER = sources("titan_provider")


def layer_of(module: str) -> str:
    """`titan_sdk.wire.frames` -> `wire`; a module no layer names belongs to `client`."""
    rest = module.removeprefix("titan_sdk").lstrip(".")
    for layer in sorted(ALLOWED, key=len, reverse=True):
        if rest == layer or rest.startswith(layer + "."):
            return layer
    return "client"


def targets(found: Import) -> list[str]:
    """The titan_sdk modules that one import statement reaches."""
    if found.module == "titan_sdk" and found.names:
        return [f"titan_sdk.{name}" for name in found.names]
    return [found.module]


def test_sdk_imports_point_downwards_only() -> None:
    # The facade, SDK[0], re-exports public names of several layers.
    wrong = [
        f"{source.name}:{found.line} ({layer}) imports {target} ({layer_of(target)})"
        for source in SDK[1:]
        for layer in [layer_of(source.module)]
        for allowed in [ALLOWED.get(layer, CLIENT)]
        for found in imports(source)
        if found.module.split(".")[0] == "titan_sdk"
        for target in targets(found)
        if "*" not in allowed and layer_of(target) not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_the_server_knows_no_job() -> None:
    """Bytes in, bytes out: of the master it knows its settings, and where a problem is shown."""
    known = ("cluster.server", "cluster.settings", "cluster.problems")
    wrong = [
        f"{source.name}:{found.line} imports {target}"
        for source in SDK
        if source.module.startswith("titan_sdk.cluster.server.")
        for found in imports(source)
        for target in targets(found)
        if target.startswith("titan_sdk.cluster.") and not target.removeprefix("titan_sdk.").startswith(known)
    ]
    assert not wrong, "\n".join(wrong)


ABOVE = {
    "store": {"engines", "worker", "master", "requests", "server", "app"},
    "worker": {"engines", "store", "master", "requests", "server", "app"},
    "engines": {"master", "requests", "app"},
    "master": {"requests", "app"},
    "requests": {"app"},
}
"""Rooms of the master, and those that may use them, which they may not use."""


def test_the_rooms_of_the_master_are_used_one_way() -> None:
    wrong = [
        f"{source.name}:{found.line} imports {target}"
        for source in SDK
        if source.module.startswith("titan_sdk.cluster.")
        for found in imports(source)
        for target in targets(found)
        if target.startswith("titan_sdk.cluster.")
        and target.split(".")[2] in ABOVE.get(source.module.split(".")[2], ())
    ]
    assert not wrong, "\n".join(wrong)


def roots_imported_by(files: Iterable[Source]) -> list[tuple[str, str]]:
    """Each file's name with the first part of each module that it imports."""
    return [(source.name, found.module.split(".")[0]) for source in files for found in imports(source)]


def test_sdk_knows_nothing_of_airflow() -> None:
    banned = {"airflow", "titan_provider", "tests"}
    assert [pair for pair in roots_imported_by(SDK) if pair[1] in banned] == []


def test_wire_is_pure() -> None:
    """No socket, no event loop, no clock: bytes to values and back."""
    wire = [source for source in SDK if layer_of(source.module) == "wire"]
    assert [pair for pair in roots_imported_by(wire) if pair[1] in NO_IO] == []


def test_third_party_imports_are_lazy_and_known() -> None:
    own = {"titan_sdk", "titan_runtime", "titan_job", *sys.stdlib_module_names}
    wrong = []
    for source in SDK:
        layer = layer_of(source.module)
        for found in imports(source):
            root = found.module.split(".")[0]
            # On a worker the package has another name, so its modules find each other by dots.
            if root in own or (not root and layer in {"runtime.worker", "runtime.values"}):
                continue
            if root not in THIRD_PARTY_OF.get(layer, set()):
                wrong.append(f"{source.name}:{found.line} imports {found.module}")
            elif found.at_import and layer not in {"cli", INSIDE_RAY}:
                wrong.append(f"{source.name}:{found.line}: import {found.module} where it is used")
    assert not wrong, "\n".join(wrong)


def test_provider_uses_public_sdk_names_only() -> None:
    wrong = [
        f"{source.name}:{found.line} imports {found.module}"
        for source in PROVIDER
        for found in imports(source)
        if found.module.split(".")[0] == "titan_sdk"
        and (found.module not in PUBLIC_MODULES or any(name.startswith("_") for name in found.names))
    ]
    assert not wrong, "\n".join(wrong)
