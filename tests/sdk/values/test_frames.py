"""pandas' and polars' frames come back with their dtypes, index, categories and zones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from titan_sdk.runtime.values import Refused, Unreadable, dump, load

pd = pytest.importorskip("pandas", reason="the extra 'values' is not installed")


def travelled(value: Any) -> Any:
    return load(json.loads(json.dumps(dump(value), allow_nan=False)))


COLUMNS: dict[str, Any] = {
    "i": np.array([1, 2], "<i4"),
    "f": [1.0, np.nan],
    "b": [True, False],
    "text": ["a", None],
    "objects": pd.Series([1, (2, b"x")], dtype=object),
    "nothing": pd.Series([None, np.nan], dtype=object),
    "cells": pd.Series([pd.NA, pd.Timestamp("2026-01-02 03:04:05.000000006", tz="Asia/Tokyo")], dtype=object),
    "category": pd.Categorical(["x", "y"], categories=["y", "x", "unused"], ordered=True),
    "numbers": pd.Categorical([3, None]),
    "naive": pd.to_datetime(["2026-01-01", None]),
    "zoned": pd.date_range("2026-01-01", periods=2, tz="Europe/Berlin"),
    "seconds": np.array(["2026-01-01", "NaT"], "M8[s]"),
    "span": pd.to_timedelta([1, None], unit="s"),
    "Int64": pd.array([1, None], dtype="Int64"),
    "Float32": pd.array([1, None], dtype="Float32"),
    "boolean": pd.array([True, None], dtype="boolean"),
    "string": pd.array(["ä", None], dtype="string"),
    "month": pd.period_range("2026-01", periods=2, freq="M"),
    "range": pd.interval_range(0, 2),
    "complex": np.array([1j, 2]),
}


@pytest.mark.parametrize("name", list(COLUMNS))
def test_a_column_of_each_dtype(name: str) -> None:
    series = pd.Series(COLUMNS[name], name=("of", name))
    pd.testing.assert_series_equal(travelled(series), series, check_exact=True)
    assert list(map(type, travelled(series).tolist())) == list(map(type, series.tolist()))
    pd.testing.assert_series_equal(travelled(series[:0]), series[:0])


def test_a_whole_frame_with_levels_attrs_and_columns_of_one_name() -> None:
    frame = pd.DataFrame(COLUMNS)
    frame.index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])
    frame.attrs = {"source": ("a", 1)}
    found = travelled({"frame": frame})["frame"]
    pd.testing.assert_frame_equal(found, frame, check_exact=True)
    assert found.dtypes.equals(frame.dtypes)
    assert found.attrs == frame.attrs
    for other in (
        pd.DataFrame(np.zeros((2, 2)), columns=["a", "a"]),
        pd.DataFrame({1: [1], (2, 3): [2]}),
        pd.DataFrame(),
        pd.DataFrame(index=[1, 2]),
        pd.DataFrame({"a": range(3)}, index=pd.date_range("2026", periods=3, freq="D", name="day")),
    ):
        pd.testing.assert_frame_equal(travelled(other), other, check_exact=True)
    index = pd.MultiIndex.from_product([["a"], [1, 2]])
    pd.testing.assert_index_equal(travelled(index), index)


def test_a_frame_that_allows_no_label_twice_stays_one() -> None:
    for value in (pd.DataFrame({"a": [1]}), pd.Series([1])):
        assert travelled(value).flags.allows_duplicate_labels
        assert not travelled(value.set_flags(allows_duplicate_labels=False)).flags.allows_duplicate_labels


def test_what_pandas_has_of_arrow_travels_as_arrow() -> None:
    pytest.importorskip("pyarrow")
    series = pd.Series([1, None], dtype="int64[pyarrow]")
    pd.testing.assert_series_equal(travelled(series), series)


def test_the_envelope_tells_shape_and_dtypes() -> None:
    tree = dump(pd.DataFrame({"a": [1, 2], "b": [0.5, 1]}))["value"]
    assert (tree["shape"], tree["dtypes"]) == ([2, 2], ["int64", "float64"])


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (pd.DataFrame({"a": [object()]}), "value['a'][0] is of type builtins.object"),
        (type("Own", (pd.DataFrame,), {})(), "a subclass of pandas' DataFrame"),
        (pd.Series(pd.arrays.SparseArray([1, 0])), "has the dtype Sparse"),
        (
            pd.date_range("2026", periods=2, freq=pd.offsets.CustomBusinessDay(holidays=["2026-01-02"])),
            "no name",
        ),
        (
            pd.Series([1, 2], pd.date_range("2026", periods=2, freq=pd.offsets.Easter())),
            "set its freq to None",
        ),
    ],
    ids=["object", "subclass", "sparse", "holidays", "easter"],
)
def test_what_a_frame_cannot_carry_is_refused_by_its_place(value: Any, sentence: str) -> None:
    with pytest.raises(Refused) as caught:
        dump(value)
    assert sentence in str(caught.value)


def test_a_forged_frame_is_refused() -> None:
    found = dump(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    for change in (
        {"index": {"range": [0, 10**12, 1], "names": [None]}},
        {"columns": {"range": [0, 3, 1], "names": [None]}},
        {"data": [{}, {}]},
    ):
        with pytest.raises(Unreadable):
            load({"titan_value": 1, "value": {**found["value"], **change}})


def test_frames_of_polars() -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(
        {
            "i": [1, None],
            "text": ["x", "y"],
            "list": [[1], [2, 3]],
            "category": pl.Series(["a", "b"], dtype=pl.Categorical),
            "zoned": pl.Series([0, 1]).cast(pl.Datetime("us", "Europe/Berlin")),
        }
    )
    assert travelled(frame).equals(frame)
    assert travelled(frame).schema == frame.schema
    assert travelled((frame["text"],))[0].equals(frame["text"])
    assert travelled(frame["text"]).name == "text"
    with pytest.raises(Refused, match="a column of Python objects"):
        dump(pl.DataFrame({"a": [object()]}))
    with pytest.raises(Refused, match="a subclass of polars' DataFrame"):
        dump(type("Own", (pl.DataFrame,), {})())
    damaged = dump(frame)
    damaged["value"]["v"] = damaged["value"]["v"][:400]
    with pytest.raises(Unreadable):
        load(damaged)
