"""The two clients offer the same: names, parameters, first docstring lines."""

from __future__ import annotations

import inspect

import pytest

from titan_sdk import AsyncDagHandle, AsyncJobHandle, AsyncTitanClient, DagHandle, JobHandle, TitanClient

PAIRS = [(TitanClient, AsyncTitanClient), (JobHandle, AsyncJobHandle), (DagHandle, AsyncDagHandle)]
ALLOWED_WORDING = {"Block until": "Wait until"}


def public(cls: type) -> dict[str, object]:
    found = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
    return {name: value for name, value in found.items() if not name.startswith("_")}


@pytest.mark.parametrize(("sync", "asynchronous"), PAIRS, ids=lambda cls: cls.__name__)
def test_names_and_parameters_agree(sync, asynchronous):
    assert public(sync).keys() == public(asynchronous).keys()
    for name, method in public(sync).items():
        twin = public(asynchronous)[name]
        if not inspect.isfunction(method):
            assert type(method) is type(twin)
            continue
        ours, theirs = inspect.signature(method), inspect.signature(twin)
        assert list(ours.parameters.values()) == list(theirs.parameters.values()), name


@pytest.mark.parametrize(("sync", "asynchronous"), PAIRS, ids=lambda cls: cls.__name__)
def test_docstrings_agree(sync, asynchronous):
    for name, method in public(sync).items():
        if not inspect.isfunction(method):
            continue
        ours = (inspect.getdoc(method) or "").splitlines()[0]
        theirs = (inspect.getdoc(public(asynchronous)[name]) or "").splitlines()[0]
        for old, new in ALLOWED_WORDING.items():
            ours = ours.replace(old, new)
        assert ours.split(";")[0].rstrip(".") == theirs.split(";")[0].rstrip("."), name
        assert ours, f"{sync.__name__}.{name} has no docstring"
