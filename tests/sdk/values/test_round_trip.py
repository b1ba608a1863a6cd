"""Any value of the documented types comes back as it was, or is refused by its place before it is sent."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import subprocess
import sys
import uuid
import zoneinfo
from typing import Any

import numpy as np
import pendulum
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.sdk.values import orders, shop
from titan_sdk.runtime.values import Envelope, Refused, dump, is_envelope, load

HERE = ["tests.sdk.values.*"]
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def travelled(value: Any, allowed: Any = HERE) -> Any:
    return load(json.loads(json.dumps(dump(value), allow_nan=False)), allowed)


def same(a: Any, b: Any) -> bool:
    """Equal in type and value, at any depth; a NaN is like another."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, np.ndarray):
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and all(map(same, a.ravel().tolist(), b.ravel().tolist()))
        )
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(x, y) and same(a[x], b[y]) for x, y in zip(a, b, strict=True))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, shop.Item):
        return same([a.name, a.colour, a.made], [b.name, b.colour, b.made])
    if isinstance(a, shop.Slotted):
        return same([a.a, a.b], [b.a, b.b])
    if isinstance(a, (dt.datetime, dt.time)):
        return a.isoformat() == b.isoformat() and a.fold == b.fold and str(a.tzinfo) == str(b.tzinfo)
    if isinstance(a, decimal.Decimal):
        return str(a) == str(b)
    return bool(a == b)


ZONES = st.one_of(
    st.none(),
    st.sampled_from([BERLIN, zoneinfo.ZoneInfo("America/New_York"), zoneinfo.ZoneInfo("UTC"), dt.UTC]),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))),
)
TEXTS = st.text(st.characters(exclude_categories=[]))
HASHABLE_ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    TEXTS,
    st.binary(),
    st.datetimes(timezones=ZONES),
    st.dates(),
    st.times(timezones=ZONES),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.builds(pathlib.Path, st.text("abc/.", min_size=1)),
    st.builds(pathlib.PureWindowsPath, st.text("abc\\:", min_size=1)),
    st.sampled_from([*shop.Colour, *shop.Size, *shop.Level, shop.Right.READ | shop.Right.WRITE]),
    st.builds(np.float64, st.floats()),
    st.builds(np.int16, st.integers(-(2**15), 2**15 - 1)),
    st.builds(np.datetime64, st.dates()),
)
KEYS = st.recursive(
    HASHABLE_ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(shop.Point, inner, inner),
    ),
    max_leaves=4,
)
ARRAYS = st.builds(
    lambda numbers, dtype, order: np.array(numbers, dtype=dtype).reshape(-1, 2).copy(order),
    st.integers(0, 3).flatmap(lambda n: st.lists(st.integers(0, 1), min_size=2 * n, max_size=2 * n)),
    st.sampled_from(["?", "i1", ">i4", "u8", "f2", "f8", "c16", "S3", "U3", "M8[us]", "m8[D]", "O"]),
    st.sampled_from("CF"),
)
VALUES = st.recursive(
    st.one_of(KEYS, ARRAYS, st.binary().map(bytearray)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(KEYS, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(st.sampled_from(["$", "v", "titan_value", "value", "é"]), inner, max_size=4),
        st.builds(shop.Item, inner, inner),
        st.builds(shop.Slotted, inner, inner),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(VALUES)
def test_any_nested_value_comes_back_as_it_was(value: Any) -> None:
    assert same(travelled(value), value)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.recursive(
        st.one_of(VALUES, st.builds(shop.Stranger), st.just(len)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
        max_leaves=6,
    )
)
def test_a_value_with_anything_else_in_it_comes_back_or_is_refused(value: Any) -> None:
    try:
        back = travelled(value)
    except Refused as exc:
        assert str(exc).startswith("value")
        assert "cannot be carried" in str(exc)
    else:
        assert same(back, value)


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
)


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_a_value_of_jsons_own_types_keeps_its_bytes(value: Any) -> None:
    assert json.dumps(dump(value)) == json.dumps(value)


def test_a_number_too_long_for_python_to_write_travels() -> None:
    assert travelled({10**9000: -(10**9000)}) == {10**9000: -(10**9000)}


def test_zeros_at_the_end_of_numpy_s_bytes_are_no_padding() -> None:
    for value in (np.bytes_(b"a\0\0"), np.bytes_(b""), np.str_("a\0")):
        assert same(travelled(value), value)


def test_a_dict_that_looks_like_an_envelope_stays_a_dict() -> None:
    lookalike = {"titan_value": 1, "value": {"$": "tuple", "v": []}}
    assert travelled(lookalike) == lookalike
    assert travelled({"a": lookalike, "b": (1,)}) == {"a": lookalike, "b": (1,)}
    assert dump({"$": 1}) == {"$": 1}


def test_an_envelope_inside_a_value_is_what_it_stands_for() -> None:
    assert travelled([Envelope(dump((1, 2)))]) == [(1, 2)]
    assert is_envelope(dump((1, 2)))


def test_moments_of_pendulum_and_pytz_arrive_as_datetimes_at_the_same_moment() -> None:
    pytz = pytest.importorskip("pytz")
    paris = pendulum.datetime(2026, 10, 25, 2, 30, tz="Europe/Paris")
    found = travelled(paris)
    assert type(found) is dt.datetime
    assert found.timestamp() == paris.timestamp()
    assert found.tzinfo == zoneinfo.ZoneInfo("Europe/Paris")
    assert travelled(pendulum.duration(days=1, hours=2)) == dt.timedelta(days=1, hours=2)
    for second in (True, False):
        moment = pytz.timezone("Europe/Berlin").localize(dt.datetime(2026, 10, 25, 2, 30), is_dst=second)  # noqa: DTZ001
        assert travelled(moment).astimezone(dt.UTC) == moment.astimezone(dt.UTC)


def test_a_class_stays_as_it_was_without_a_call_of_it() -> None:
    item = shop.Item("x")
    object.__setattr__(item, "name", "never called while reading")
    assert item.length == 4  # cached in the object, and no field
    assert travelled(item).name == "never called while reading"
    order = orders.Order(number=1, items=(1, b"x"), note="more")
    order._secret = 5
    back = travelled(order)
    assert back == order
    assert back._secret == 5
    assert back.model_fields_set == order.model_fields_set


def test_a_subclass_of_a_plain_type_arrives_as_that_type() -> None:
    class Text(str):
        __slots__ = ()

    class Mapping(dict[str, int]): ...

    found = travelled({"a": Text("x"), "b": Mapping(c=1)})
    assert same(found, {"a": "x", "b": {"c": 1}})


def test_where_nobody_can_import_a_class_what_equals_it_arrives_instead() -> None:
    level = enum.IntEnum("Level", {"HIGH": 3}, module="__main__")
    point = collections.namedtuple("Point", "x y", module="__main__")
    assert same(travelled([level.HIGH, point(1, (2,)), {level.HIGH: 1}]), [3, (1, (2,)), {3: 1}])


def test_where_a_class_is_not_allowed_what_equals_it_arrives_instead() -> None:
    found = travelled([shop.Size.SMALL, shop.Level.HIGH, shop.Point(1, (2,))], ())
    assert same(found, ["s", 3, (1, (2,))])
    assert found == [shop.Size.SMALL, shop.Level.HIGH, shop.Point(1, (2,))]


LOOP: list[Any] = [1]
LOOP.append({"a": LOOP})


class Distinct(str):
    """Equal to nothing but itself."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


DEEP: Any = ()
for _ in range(300):
    DEEP = (DEEP,)
LOCAL = type("Local", (shop.Item,), {"__module__": "__main__"})


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            [0, 1, {"a": shop.Item(shop.Stranger())}],
            "args[2]['a'].name is of type tests.sdk.values.shop.Stranger",
        ),
        ({1: {(1, len)}}, "args[1]{a member}[1] is of type builtins.builtin_function_or_method"),
        ({(len,): 1}, "args{the key"),
        (LOOP, "args[1]['a'] contains itself"),
        (DEEP, "is nested more than 200 deep"),
        (LOCAL("x"), "args is of the class __main__.Local, which no other process can import"),
        (range(3), "args is of type builtins.range"),
        (np.ma.array([1]), "args is of numpy.ma.MaskedArray, a subclass of numpy's array"),
        (np.array([1, len], dtype=object), "args[1] is of type builtins.builtin_function_or_method"),
        (np.zeros(1, [("a", "O")]), "with objects in it"),
        (
            np.zeros(1, [("p", np.dtype([("a", "i1"), ("b", "f8")], align=True))]),
            "with gaps between its fields",
        ),
        (
            np.zeros(1, {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]}),
            "fields out of order",
        ),
        (np.zeros(1, []), "with gaps between its fields"),
        (np.rec.array([(1, 2)])[0], "args is a numpy.record"),
        (orders.Order.model_construct(items=1), "args has no field 'number', which its model demands"),
        ({Distinct("a"): 1, Distinct("a"): 2}, "args has several keys of one text"),
        (dt.datetime(2026, 1, 1, tzinfo=type("Own", (dt.tzinfo,), {})()), "args has the time zone"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_carried_is_refused_by_its_place(value: Any, sentence: str) -> None:
    with pytest.raises(Refused) as caught:
        dump(value, "args")
    assert sentence in str(caught.value)


def test_a_value_of_plain_types_needs_neither_numpy_nor_pandas() -> None:
    probe = """
import sys, datetime
from titan_sdk.runtime.values import dump, load
assert load(dump({"a": (1, {2}), "b": datetime.datetime(2026, 1, 2)})) == {"a": (1, {2}), "b": datetime.datetime(2026, 1, 2)}
print(*sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", probe], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["__main__", "titan_sdk"] or done.stdout.split() == ["titan_sdk"], done
    assert math.isnan(travelled(float("nan")))
    assert travelled(uuid.UUID(int=5)) == uuid.UUID(int=5)
