"""Listing keys as their owners wrote them, page by page, on every store."""

from __future__ import annotations

import asyncio
import json

import pytest

from titan_sdk.cluster.requests.titanstore import Values
from titan_sdk.cluster.store.base import Store
from titan_sdk.cluster.store.changes import Expire, Put
from titan_sdk.wire.fields import MARK, encode_key


async def listed(store: Store, prefix: str) -> list[str]:
    """All pages."""
    values, found, more = Values(store), list[str](), True
    while more:
        request = {"prefix": prefix, "after": found[-1] if found else ""}
        page = json.loads(await values.keys(json.dumps(request).encode()))
        assert page["keys"] or not page["more"]
        found += page["keys"]
        more = page["more"]
    return found


@pytest.mark.parametrize("prefix", ["", "~"])
async def test_keys_behind_thousands_of_escaped_ones_are_listed(store: Store, prefix: str) -> None:
    """As they are stored, escaped keys lie between these two."""
    names = ["~s", "~z", "~~", *(f"{letter}{number:04}" for letter in "aé~" for number in range(1100))]
    names += [f"~é{number:04}" for number in range(1100)]
    for name in names:
        store.journal.write(Put(encode_key(name), "v"))
    await store.journal.write()
    assert await listed(store, prefix) == sorted(name for name in names if name.startswith(prefix))


async def test_a_key_that_expired_on_a_page_ends_no_list(store: Store) -> None:
    names = [f"k{number:04}" for number in range(1500)]
    for name in names:
        store.journal.write(Put(name, "v"))
    await store.journal.write(Expire("k0007", 0.001))
    while await store.get("k0007") is not None:  # noqa: ASYNC110 - time passes in the store
        await asyncio.sleep(0.005)
    assert await listed(store, "k") == [name for name in names if name != "k0007"]
    assert await store.keys("k", "k0005", 2) == ["k0006", "k0008"]


async def test_keys_that_are_no_utf8_and_what_only_begins_like_an_escape_end_no_list(store: Store) -> None:
    """A text may hold half of a surrogate pair; it is stored escaped, and the next page begins behind it."""
    halves = [f"k\ud800{number:04}" for number in range(1100)]
    for key in halves:
        store.journal.record(Put(encode_key(key), "v"))
    for key in ("k", "ka", "k\ue000", "kz", f"{MARK}k", f"{MARK}[", f'{MARK}"k'):
        store.journal.record(Put(key, "v"))
    await store.journal.write()
    assert await listed(store, "k") == ["k", "ka", "kz", *halves, "k\ue000"]
    assert await listed(store, "k\ud800") == halves
