from __future__ import annotations

import base64
import json
import tracemalloc
import uuid
import zlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from titan_sdk import CorruptData, xcom as module
from titan_sdk.xcom import Reference, TaskCoordinate, belongs_to, decode, encode, make_key, place_key

KEY = "titan:xcom:d/r/t/-1/k/6b0cf723-e0e53408300d"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSON, st.booleans())
def test_any_value_comes_back(value: Any, compress: bool) -> None:
    text = json.dumps(value)
    reference, pieces = encode(KEY, text, compress=compress, preview=20)
    assert all(piece.isascii() for piece in pieces)
    stored = json.loads(json.dumps(reference.to_json()))
    again = Reference.from_json(stored)
    assert again == reference
    assert decode(again, "".join(pieces)) == value


def test_long_values_are_cut_into_parts_that_fit_a_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_CHARS", 10)
    reference, pieces = encode("k", json.dumps("x" * 33), compress=False, preview=0)
    assert reference.part_keys == ["k:0", "k:1", "k:2", "k:3"]
    assert [len(p) for p in pieces] == [10, 10, 10, 5]
    assert decode(reference, "".join(pieces)) == "x" * 33


def test_a_short_value_lies_readable_under_the_key_itself() -> None:
    reference, pieces = encode("k", '{"a":1}', compress=False, preview=80)
    assert reference.part_keys == ["k"]
    assert pieces == ['{"a":1}']
    assert reference.to_json()["preview"] == '{"a":1}'


@pytest.mark.parametrize(("preview", "shown"), [(0, ""), (8, '"aaaa...'), (100, '"aaaaaaaaaa"')])
def test_a_reference_shows_the_beginning(preview: int, shown: str) -> None:
    assert encode("k", '"aaaaaaaaaa"', compress=False, preview=preview)[0].preview == shown


@pytest.mark.parametrize("damage", ["", "[1, 2, 4]", '["x"', "[1, 2, 3] ", "é"])
def test_damage_is_noticed(damage: str) -> None:
    reference, _ = encode("the-key", "[1, 2, 3]", compress=False, preview=0)
    with pytest.raises(CorruptData, match="'the-key'"):
        decode(reference, damage)


def test_damage_of_compressed_text_is_noticed() -> None:
    reference, (piece,) = encode("the-key", "[1, 2, 3]", compress=True, preview=0)
    for damage in ("!!", piece[:-4], piece[4:]):
        with pytest.raises(CorruptData):
            decode(reference, damage)


@pytest.mark.parametrize("value", [None, 5, "titan_xcom", ["titan_xcom"], {"a": 1}, {"titan_xcom": 2}])
def test_values_of_others_are_no_references(value: Any) -> None:
    assert Reference.from_json(value) is None


def test_a_broken_reference_is_an_error() -> None:
    with pytest.raises(CorruptData, match="cannot be read as one"):
        Reference.from_json({"titan_xcom": 1, "key": "k"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "team-b:model"),
        ("key", "titan:airflow:window:GPU"),
        ("key", f"titan:xcom-at:d/r/t/-1/k{KEY[-22:]}"),
        ("key", KEY + ":0"),
        ("key", KEY[:-1]),
        ("key", "titan:xcom:" + "d" * 500 + KEY[-22:]),
        ("key", 7),
        ("parts", 2 * 10**9),
        ("parts", 2),
        ("parts", -1),
        ("parts", True),
        ("parts", "1"),
        ("bytes", -1),
        ("bytes", 10**15),
        ("bytes", float("inf")),
        ("sha256", "0" * 63),
        ("encoding", "json+bz2"),
        ("preview", None),
    ],
)
def test_a_reference_that_we_never_write_is_refused_by_its_field(field: str, value: Any) -> None:
    whole = encode(KEY, "[1]", compress=False, preview=9)[0].to_json()
    assert Reference.from_json(whole) is not None
    with pytest.raises(CorruptData, match=f"its '{field}' is not of the kind"):
        Reference.from_json(whole | {field: value})


def test_a_reader_grows_by_no_more_than_the_reference_names() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(64 * 1024**2))).decode()
    reference = Reference(KEY, "0" * 64, 10, "", "json+zlib+base64")
    tracemalloc.start()
    try:
        with pytest.raises(CorruptData, match="longer than the 10 bytes"):
            decode(reference, bomb)
        assert tracemalloc.get_traced_memory()[1] < 1024**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compress", [False, True])
def test_a_value_nested_without_end_is_damage(compress: bool) -> None:
    reference, (piece,) = encode(KEY, "[" * 100_000, compress=compress, preview=0)
    with pytest.raises(CorruptData):
        decode(reference, piece)


def test_a_key_belongs_to_the_xcom_that_it_was_made_for_alone() -> None:
    whose = ("d", "r", "t", -1, "k")
    assert belongs_to(encode(make_key(*whose), "1", compress=False, preview=0)[0], *whose)
    for other in (
        ("e", "r", "t", -1, "k"),
        ("d", "r", "t", 0, "k"),
        ("d", "r", "t", -1, "k/x"),
        ("d/r", "t", "-1", -1, "k"),
    ):
        assert not belongs_to(encode(make_key(*other), "1", compress=False, preview=0)[0], *whose)
    for key in ("titan:xcom:d/r/t/-1/k/mine", "titan:xcom-job:d/r/t/-1/k/1-0123456789ab", "model"):
        assert not belongs_to(encode(key, "1", compress=False, preview=0)[0], *whose)


def test_keys_are_readable_ascii_bounded_and_new_each_time() -> None:
    key = make_key("my dag", "manual__2026-11-24T03:37:33+00:00", "tâche", 3, "return_value")
    assert key.startswith("titan:xcom:my%20dag/manual__2026-11-24T03:37:33+00:00/t%C3%A2che/3/return_value/")
    assert key != make_key("my dag", "manual__2026-11-24T03:37:33+00:00", "tâche", 3, "return_value")
    long = make_key("d" * 250, "r" * 250, "t" * 250, -1, "k" * 500)
    assert long.isascii()
    assert len(long) < 450


def test_the_place_of_an_xcom_is_the_key_without_what_is_new_each_time() -> None:
    where = ("my dag", "r", "t", -1, "return_value")
    key, place = make_key(*where), place_key(*where)
    assert place == "titan:xcom-at:my%20dag/r/t/-1/return_value"
    assert key.removeprefix("titan:xcom:").startswith(place.removeprefix("titan:xcom-at:") + "/")


TASK = TaskCoordinate("my dag", "manual__2026-11-24T03:37:33+00:00", "tâche", 3)
"""Its keys, below, are those that earlier versions made and that stores are full of."""


def test_without_a_region_every_key_is_what_it_always_was() -> None:
    path = "my%20dag/manual__2026-11-24T03:37:33+00:00/t%C3%A2che/3/return_value"
    assert TASK.xcom_place("return_value") == f"titan:xcom-at:{path}"
    assert TASK.new_xcom_key("return_value").startswith(f"titan:xcom:{path}/")
    long = TaskCoordinate("d" * 250, "r" * 250, "t" * 250, -1).xcom_place("k")
    end = "b0e334226cdbee773d645845fd41cfe23daae84c9ac605e86c68a7f021cc5d2b"
    assert long == f"titan:xcom-at:{'d' * 250}/{'r' * 84}~{end}"
    record = TASK.record_key("http://api:8080/execution/")
    assert record == "titan:airflow:task:e80717328ba83452e8aba15c0f0c4b68fce8cf07"


def test_a_region_of_zeros_is_none() -> None:
    for none in (None, "", uuid.UUID(int=0), str(uuid.UUID(int=0))):
        assert replace(TASK, region=none) == TASK  # type: ignore[arg-type]


def test_tasks_of_two_regions_share_no_key() -> None:
    regions = [None, "a", "b"]
    tasks = [replace(TASK, region=region) for region in regions]
    reference = encode(tasks[1].new_xcom_key("k"), "1", compress=False, preview=0)[0]
    assert [task.owns(reference, "k") for task in tasks] == [False, True, False]
    assert Reference.from_json(reference.to_json()) == reference
    for made in ([task.xcom_place("k") for task in tasks], [task.record_key("here") for task in tasks]):
        assert len(set(made)) == 3
    assert tasks[1].xcom_place("k").startswith("titan:xcom-at:region=a/my%20dag/")
    assert TaskCoordinate("region=a", "r", "t", -1).xcom_place("k") == "titan:xcom-at:region%3Da/r/t/-1/k"


def test_a_coordinate_is_read_from_whatever_has_a_tasks_names() -> None:
    names = {"dag_id": TASK.dag_id, "run_id": TASK.run_id, "task_id": TASK.task_id}
    assert TaskCoordinate.of(SimpleNamespace(**names, map_index=3)) == TASK
    assert TaskCoordinate.of(SimpleNamespace(**names, map_index=None)).map_index == -1
    region = uuid.uuid4()
    assert TaskCoordinate.of(SimpleNamespace(**names, map_index=3, region_id=region)).region == str(region)
