"""XCom backend that keeps values in TitanStore, where jobs on the cluster read the same values.

Switched on by ``[core] xcom_backend = titan_provider.xcom.titan_store.TitanStoreXComBackend``; options are in the
section ``[titan_provider]``. It runs in tasks and in the triggerer. Airflow's API server shows the references.
"""

from __future__ import annotations

import json
import logging
from functools import cache
from typing import Any

from airflow.providers.common.compat.sdk import conf

from titan_provider.exceptions import TitanXComError
from titan_provider.xcom.base import BaseXCom, database_to_plain, plain_to_database
from titan_provider.xcom.reference import MARK, Reference, decode, encode, make_key
from titan_sdk import TitanClient, TitanError

__all__ = ["TitanStoreXComBackend"]

_SECTION = "titan_provider"
log = logging.getLogger(__name__)


class TitanStoreXComBackend(BaseXCom):
    """Values of ``xcom_threshold`` bytes and more go to TitanStore; smaller ones stay in Airflow's database."""

    @staticmethod
    def serialize_value(
        value: Any,
        *,
        key: str | None = None,
        task_id: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        map_index: int | None = None,
        **_: Any,
    ) -> Any:
        """What Airflow's database gets in the value's place: a reference once the value is stored and read back.

        :raises TitanXComError: the store cannot take the value
        """
        plain = database_to_plain(BaseXCom.serialize_value(value))
        text = json.dumps(plain, separators=(",", ":"))
        threshold = conf.getint(_SECTION, "xcom_threshold", fallback=0)
        if len(text) < threshold and not _looks_like_reference(plain):
            return plain_to_database(plain)
        store_key = make_key(
            dag_id or "-", run_id or "-", task_id or "-", -1 if map_index is None else map_index, key or "-"
        )
        reference, pieces = encode(store_key, text, compress=_compress(), preview=_preview())
        _store(reference, pieces)
        return plain_to_database(reference.to_json())

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """The value a task pushed, from wherever it is.

        :raises TitanXComError: it is not in TitanStore any more, or not whole
        """
        reference = Reference.from_json(database_to_plain(result.value))
        if reference is None:
            return BaseXCom.deserialize_value(result)
        return BaseXCom.deserialize_value(_Stored(plain_to_database(decode(reference, _fetch(reference)))))

    def orm_deserialize_value(self) -> Any:
        """What Airflow 2's web server shows: the reference, never the value. Airflow 3 does not ask."""
        return database_to_plain(self.value)  # type: ignore[attr-defined]  # a column of Airflow 2's row

    @classmethod
    def purge(cls, xcom: Any, *_: Any) -> None:
        """Give the value's space back when Airflow deletes the XCom. Values of others are left alone."""
        try:
            reference = Reference.from_json(database_to_plain(xcom.value))
        except TitanXComError:
            return
        if reference is None:
            return
        try:
            for part_key in reference.part_keys:
                _client().store_put(part_key, "")
        except TitanError as exc:
            # Airflow purges while it starts a new try: litter in the store must not stop that.
            log.warning("XCom %s could not be removed from TitanStore: %s", reference.key, exc)


class _Stored:
    """What ``BaseXCom.deserialize_value`` reads: anything with a ``value``."""

    def __init__(self, value: Any) -> None:
        self.value = value


@cache
def _client() -> TitanClient:
    """One client per process: Airflow calls the backend's functions without anything to keep state in."""
    from titan_provider.hooks.titan import TitanHook  # not while Airflow imports the backend; see base.py

    return TitanHook(conf.get(_SECTION, "xcom_conn_id", fallback=TitanHook.default_conn_name)).get_conn()


def _compress() -> bool:
    choice = conf.get(_SECTION, "xcom_compression", fallback="none")
    if choice not in ("none", "zlib"):
        raise TitanXComError(f"[{_SECTION}] xcom_compression is {choice!r}; use none or zlib")
    return bool(choice == "zlib")


def _preview() -> int:
    return int(conf.getint(_SECTION, "xcom_preview", fallback=80))


def _looks_like_reference(plain: Any) -> bool:
    """A user's own dict with our mark must not be taken for a reference later, so it is always stored."""
    return isinstance(plain, dict) and MARK in plain


def _store(reference: Reference, pieces: list[str]) -> None:
    client = _client()
    try:
        for part_key, piece in zip(reference.part_keys, pieces, strict=True):
            client.store_put(part_key, piece)
            # A Titan master acknowledges writes while its store is down.
            if client.store_get(part_key) != piece:
                raise TitanXComError(
                    f"TitanStore lost {part_key!r} a moment after it acknowledged it; the XCom was not pushed. "
                    "Is the store behind the master running?"
                )
    except TitanError as exc:
        raise TitanXComError(
            f"XCom {reference.key!r} ({reference.bytes:,} bytes) cannot be stored: {exc}"
        ) from exc


def _fetch(reference: Reference) -> str:
    try:
        pieces = [_client().store_get(part_key) for part_key in reference.part_keys]
    except TitanError as exc:
        raise TitanXComError(f"XCom {reference.key!r} cannot be read: {exc}") from exc
    missing = [k for k, piece in zip(reference.part_keys, pieces, strict=True) if not piece]
    if missing:
        raise TitanXComError(
            f"XCom {reference.key!r} is not in TitanStore any more ({len(missing)} of {len(pieces)} parts missing); "
            "clear the task that pushed it"
        )
    return "".join(piece for piece in pieces if piece)
