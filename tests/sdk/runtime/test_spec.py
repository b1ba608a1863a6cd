from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from typing import Any

import pytest

from titan_sdk.errors import InvalidJob
from titan_sdk.runtime.bundle import runtime_bundle
from titan_sdk.runtime.spec import INLINE_LIMIT, RunSpec, Script

SCRIPT, _ = Script.of("job.py", b"pass")
NONCE = "0123456789abcdef"


def spec(**changes: Any) -> RunSpec:
    fields = {"job_id": "DAG-a", "nonce": NONCE, "host": "h", "port": 1, "script": SCRIPT, **changes}
    return RunSpec(**fields)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.py", "python"), ("a.sh", "shell"), ("a", "executable"),
        ("a.PY", "executable"), ("a.bin", "executable"), (".py", "executable"),
    ],
)  # fmt: skip
def test_the_name_decides_how_a_file_is_started(name: str, kind: str) -> None:
    assert Script.kind_of(name) == kind


def test_small_scripts_travel_inline_and_large_ones_by_their_hash() -> None:
    small, none = Script.of("a.py", b"x = 1\n" * 5000)
    assert none is None
    assert small.data is not None
    assert zlib.decompress(base64.b64decode(small.data)) == b"x = 1\n" * 5000
    content = os.urandom(INLINE_LIMIT)
    large, asset = Script.of("a.py", content)
    assert asset is not None
    assert (large.data, large.asset, large.sha256) == (None, asset.name, hashlib.sha256(content).hexdigest())
    assert asset.name.startswith("titan-blob-" + asset.sha256[:32])
    assert str(len(content)) in repr(asset)


def test_the_json_form_is_ascii_and_holds_everything() -> None:
    text = spec(
        argv=("é",), env={"A": "1"}, params={"p": "é"}, max_attempts=3, timeout=1.5, parents={"DAG-p": NONCE}
    ).to_json(runtime_bundle())
    assert text.isascii()
    found = json.loads(text)
    assert json.loads(found.pop("params")) == {"p": "é"}
    assert found == {
        "v": 1,
        "id": "DAG-a",
        "nonce": NONCE,
        "master": ["h", 1],
        "runtime": {"asset": runtime_bundle().name, "sha256": runtime_bundle().sha256},
        "script": SCRIPT.to_dict(),
        "argv": ["é"],
        "env": {"A": "1"},
        "max_attempts": 3,
        "timeout": 1.5,
        "parents": {"DAG-p": NONCE},
    }


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"script": Script("a/b.py", "python", data="")},
            r"filename 'a/b.py' is not the base name of a file",
        ),
        ({"script": Script("..", "python", data="")}, r"filename '..' is not the base name"),
        ({"script": Script("é" * 128, "python", data="")}, r"is longer than the 255 bytes"),
        ({"nonce": "xyz"}, r"nonce 'xyz' is not 16 hex digits"),
        ({"argv": ("a\0b",)}, r"contains a NUL character"),
        ({"env": {"A=B": "1"}}, r"env \{'A=B': '1'\} cannot be an environment variable"),
        ({"env": {"": "1"}}, r"cannot be an environment variable"),
        ({"env": {"A": "\0"}}, r"cannot be an environment variable"),
        ({"python": "py\nthon"}, r"is not the name or path of a program"),
        ({"python": ""}, r"is not the name or path of a program"),
        ({"max_attempts": 0}, r"max_attempts 0 is not a whole number from 1 up"),
        ({"timeout": 0.0}, r"timeout 0.0 is not a number of seconds above 0"),
        ({"timeout": float("inf")}, r"timeout inf is not"),
        ({"params": object()}, r"is not JSON"),
        ({"params": float("nan")}, r"is not JSON"),
        ({"params": {"x": ["long" * 100, {1, 2}]}}, r"\.\.\. is not JSON"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidJob, match=complaint):
        spec(**changes)
