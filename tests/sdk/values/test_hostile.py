"""Whoever reads an envelope that somebody else has made imports nothing, runs nothing and allocates nothing for it."""

from __future__ import annotations

import base64
import json
import sys
import tracemalloc
from typing import Any

import pytest

from tests.sdk.values import shop
from titan_sdk import InvalidArgument, UnreadableValue, values
from titan_sdk.runtime.values import NotAllowed, Unreadable, dump, load

NONE = base64.b64encode(b"").decode()


def envelope(tree: Any) -> dict[str, Any]:
    return {"titan_value": 1, "value": tree}


STRANGE = [
    "this:Zen",
    "antigravity:Fly",
    "os:system",
    "subprocess:Popen",
    "xmlrpc.server:Handler",
    "__main__:X",
]


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("kind", ["enum", "dataclass", "pydantic"])
def test_a_class_that_is_not_allowed_is_not_even_imported(kind: str, name: str) -> None:
    found = envelope([{"$": kind, "class": name, "name": "A", "v": {}, "set": []}])
    before = set(sys.modules)
    with pytest.raises(NotAllowed) as caught:
        load(found, ["tests.*", shop.Item])
    assert set(sys.modules) == before
    assert name.replace(":", ".") in str(caught.value)
    assert "allowed_classes=" in str(caught.value)


def test_the_sdk_says_which_class_and_which_setting() -> None:
    found = values.dump(shop.Item("x", None))
    with pytest.raises(
        UnreadableValue, match=r"shop\.Item, which is not allowed here.*allowed_classes="
    ) as caught:
        values.load(found)
    assert caught.value.class_name == "tests.sdk.values.shop.Item"
    assert values.load(found, allowed_classes=[shop.Item]) == shop.Item("x", None)
    assert values.load(found, allowed_classes=["tests.sdk.values.shop.Item"]) == shop.Item("x", None)
    assert values.opened(found) == found
    with pytest.raises(InvalidArgument, match=r"value\['a'\] is of type"):
        values.dump({"a": shop.Stranger()})


@pytest.mark.parametrize(
    "tree",
    [
        {"$": "enum", "class": "tests.sdk.values.shop:Item", "name": "RED"},
        {"$": "enum", "class": "tests.sdk.values.shop:Colour", "name": "GREEN"},
        {"$": "enum", "class": "tests.sdk.values.orders:pydantic.BaseModel", "name": "RED"},
        {"$": "dataclass", "class": "tests.sdk.values.shop:Stranger", "v": {}},
        {
            "$": "dataclass",
            "class": "tests.sdk.values.shop:Item",
            "v": {"name": 1, "colour": 2, "__class__": 3},
        },
        {"$": "dataclass", "class": "tests.sdk.values.shop:Item", "v": {"name": 1}},
        {"$": "dataclass", "class": "tests.sdk.values.shop:Missing", "v": {}},
        {"$": "dataclass", "class": "tests.sdk.values.no_such_module:Missing", "v": {}},
        {"$": "pydantic", "class": "tests.sdk.values.shop:Item", "v": {}, "set": []},
        {"$": "namedtuple", "class": "tests.sdk.values.shop:Colour", "v": []},
        {"$": "pickle", "python": "3.11", "v": NONE},
        [{"$": "pickle", "python": "3.11", "v": NONE}],
        {"$": "no such kind"},
        {"$": ["tuple"], "v": []},
        {"$": "tuple", "v": {"a": 1}},
        {"$": "tuple"},
        {"$": "set", "v": [[]]},
        {"$": "dict", "v": [[1]]},
        {"$": "int", "v": "0x"},
        {"$": "float", "v": "1.5"},
        {"$": "bytes", "v": "!"},
        {"$": "datetime", "v": "yesterday"},
        {"$": "datetime", "v": "2026-01-01T00:00:00", "tz": {"zone": "../../../etc/passwd"}},
        {"$": "datetime", "v": "2026-01-01T00:00:00", "tz": {"zone": "No/Such"}},
        {"$": "datetime", "v": "2026-01-01T00:00:00", "tz": {"offset": [10**12, 0]}},
        {"$": "timedelta", "v": [10**12, 0, 0]},
        {"$": "path", "kind": "os", "v": "x"},
        {"$": "numpy.array", "dtype": "O", "shape": [1], "order": "C", "v": NONE},
        {"$": "numpy.array", "dtype": "f4,O", "shape": [1], "order": "C", "v": NONE},
        {"$": "numpy.array", "dtype": "|O", "shape": [10**9], "order": "C", "items": [1]},
        {"$": "numpy.array", "dtype": "<f8", "shape": [10**9, 10**9], "order": "C", "v": "AAAA"},
        {"$": "numpy.array", "dtype": "<f8", "shape": [-1], "order": "C", "v": NONE},
        {"$": "numpy.array", "dtype": "|V0", "shape": [10**12], "order": "C", "v": NONE},
        {"$": "numpy.array", "dtype": [["a", "|O"]], "shape": [1], "order": "C", "v": NONE},
        {"$": "numpy.scalar", "dtype": "<f8", "v": {"buffer": NONE}},
        {"$": "numpy.scalar", "dtype": "<f8", "v": "x"},
    ],
    ids=lambda tree: json.dumps(tree)[:60],
)
def test_a_forged_value_is_refused_in_one_sentence(tree: Any) -> None:
    with pytest.raises(Unreadable) as caught:
        load(envelope(tree), ["tests.sdk.values.*"])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_declared_sizes_are_checked_before_memory_is_taken() -> None:
    declared = [
        {"$": "numpy.array", "dtype": "<f8", "shape": [10**10], "order": "C", "v": "AAAAAAAAAAA="},
        {"$": "numpy.array", "dtype": "|V999999999", "shape": [9], "order": "C", "v": "AAAA"},
    ]
    load(dump((1,)))
    pytest.importorskip("numpy")
    tracemalloc.start()
    try:
        for tree in declared:
            with pytest.raises(Unreadable, match="it declares"):
                load(envelope(tree))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_depth_is_bounded() -> None:
    tree: Any = []
    for _ in range(450):
        tree = {"$": "tuple", "v": [tree]}
    with pytest.raises(Unreadable, match="nested"):
        load(envelope(tree))


def test_a_later_version_says_that_it_is_one() -> None:
    with pytest.raises(Unreadable, match=r"version 2 .*upgrade"):
        load({"titan_value": 2, "value": 1})


def test_a_pickle_is_read_where_the_reader_says_so_and_by_the_same_python_only() -> None:
    pytest.importorskip("cloudpickle")
    found = dump({"f": lambda x: x + 1}, serializer="cloudpickle")
    assert load(found, serializer="cloudpickle")["f"](2) == 3
    with pytest.raises(Unreadable, match="a pickle can run anything"):
        load(found)
    found["value"]["python"] = "3.8"
    with pytest.raises(Unreadable, match=r"pickled by Python 3\.8, and this is"):
        load(found, serializer="cloudpickle")
    with pytest.raises(InvalidArgument, match="'json' or 'cloudpickle'"):
        values.dump(1, serializer="pickle")
