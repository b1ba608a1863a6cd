"""An XCom backend that stores values in TitanStore, where jobs on the cluster can read them.

Switched on by ``[core] xcom_backend = titan_provider.xcom.titan_store.TitanStoreXComBackend``; options are in the
section ``[titan_provider]``. It runs in tasks and in the triggerer. Airflow's API server shows the references.
"""

from __future__ import annotations

import json
import logging
from functools import cache
from typing import Any

from airflow.providers.common.compat.sdk import conf

from titan_provider.exceptions import TitanFunctionRefused, TitanXComError
from titan_provider.values import opened, with_envelopes
from titan_provider.xcom.base import (
    BaseXCom,
    Stored,
    database_to_plain,
    exact_in_airflow,
    plain_to_database,
    purged_xcom,
)
from titan_sdk import (
    CorruptData,
    InvalidArgument,
    NotFound,
    TitanClient,
    TitanError,
    values,
    xcom,
)
from titan_sdk.xcom import Reference, TaskCoordinate

__all__ = ["TitanStoreXComBackend"]

_SECTION = "titan_provider"
log = logging.getLogger(__name__)


_THRESHOLD = 1024
"""Shorter values stay in Airflow's database, because a reference alone has about 300 bytes."""
_NAMES = ("titan_job_id", "titan_dag_name")
"""XCom keys of the provider's own names. They are never stored as references, because people and links read them."""
_placed: set[str] = set()
"""Places for which this process has stored a reference."""


class TitanStoreXComBackend(BaseXCom):
    """Values of ``xcom_threshold`` bytes (1 KiB) and more go to TitanStore; smaller ones stay in Airflow's database."""

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
        """Store the value and read it back. Returns the reference for Airflow's database.

        :raises TitanXComError: the store cannot take the value
        """
        index = -1 if map_index is None else map_index
        return _keep(TaskCoordinate(dag_id or "-", run_id or "-", task_id or "-", index), key, value)

    @classmethod
    def store_value(cls, coordinate: Any, key: str, value: Any) -> Any:
        """Do as :meth:`serialize_value`. Airflow 3.4 and later call this method, because tasks may have a region there.

        :param coordinate: Airflow's own object, with the attributes of a task instance
        """
        return _keep(TaskCoordinate.of(coordinate), key, value)

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """The value that a task pushed, from TitanStore or from Airflow's database.

        :raises TitanXComError: the value is no longer in TitanStore, or is damaged
        """
        plain = database_to_plain(result.value)
        try:
            reference = Reference.from_json(plain)
            if values.is_envelope(plain):
                return opened(plain, "the XCom")
            if reference is None:
                return BaseXCom.deserialize_value(result)
            value = xcom.value_of(_client(), reference)
            if values.is_envelope(value):
                return opened(value, f"XCom {reference.key!r}")
        except (CorruptData, NotFound) as exc:
            raise TitanXComError(str(exc)) from exc
        except TitanError as exc:
            raise TitanXComError(f"XCom {plain['key']!r} cannot be read: {exc}") from exc
        return BaseXCom.deserialize_value(Stored(plain_to_database(value)))

    def orm_deserialize_value(self) -> Any:
        """The reference, not the value, for Airflow 2's web server. Airflow 3 does not call this method."""
        return database_to_plain(self.value)  # type: ignore[attr-defined]  # a column of Airflow 2's row

    @classmethod
    def purge(cls, row: Any, *_: Any) -> None:
        """Delete the value when Airflow deletes the XCom.

        Only a key that was made for this XCom is deleted. Any other reference is forged, or leads to a value that a job
        wrote. Such a value is the job's result, and the retry that deletes this XCom may take the job up again.
        """
        purged = purged_xcom(row)
        try:
            # Airflow 2 has already read the row's bytes, with `orm_deserialize_value`.
            plain = database_to_plain(row.value) if isinstance(row.value, bytes) else row.value
            reference = Reference.from_json(plain)
        except CorruptData:
            return
        if reference is None or purged is None or not purged[0].owns(reference, purged[1]):
            return
        try:
            xcom.remove(_client(), reference)
        except TitanError as exc:
            # Airflow purges at the start of a new try. A value that stays in the store must not stop that.
            log.warning("XCom %s could not be removed from TitanStore: %s", reference.key, exc)


def _keep(coordinate: TaskCoordinate, key: str | None, value: Any) -> Any:
    """Store the value in TitanStore if it is large. Returns the form for Airflow's database."""
    plain, text = _forms(value)
    is_marked = isinstance(plain, dict) and xcom.MARK in plain
    place = coordinate.xcom_place(key or "-")
    if not is_marked and (len(text) < _threshold() or (key in _NAMES and isinstance(plain, str))):
        if place in _placed:
            _forget(place)
        return plain_to_database(plain)
    try:
        # A user's own dict with our mark is stored in TitanStore, so that it is not taken for a reference later.
        reference = _from_job(plain) if is_marked else None
        if reference is None:
            reference, pieces = xcom.encode(
                coordinate.new_xcom_key(key or "-"), text, compress=_compress(), preview=_preview()
            )
            xcom.store(_client(), reference, pieces)
        _client().store_put(place, json.dumps(reference.to_json()))
        _placed.add(place)
    except TitanError as exc:
        raise TitanXComError(f"XCom {key!r} of {len(text):,} bytes cannot be stored: {exc}") from exc
    return plain_to_database(reference.to_json())


def _forms(value: Any) -> tuple[Any, str]:
    """The value as JSON, and the JSON's text.

    A value that JSON cannot hold becomes an envelope, which jobs on the cluster can read. A short value that Airflow
    stores exactly gets Airflow's own form instead.
    """
    try:
        form = (
            values.Envelope(value)
            if values.is_envelope(value)
            else values.dump(with_envelopes(value, "XCom"))
        )
    except (InvalidArgument, TitanFunctionRefused):
        form = None  # Airflow may know the class
    if isinstance(form, values.Envelope):
        plain = dict(form)
        text = json.dumps(plain, separators=(",", ":"))
        if values.is_envelope(value) or len(text) >= _threshold() or not exact_in_airflow(value):
            return plain, text
    plain = database_to_plain(BaseXCom.serialize_value(value))
    return plain, json.dumps(plain, separators=(",", ":"))


@cache
def _client() -> TitanClient:
    """One client per process, because Airflow calls the backend's functions without an object for state."""
    from titan_provider.hooks.titan import TitanHook  # not while Airflow imports the backend; see base.py

    return TitanHook(conf.get(_SECTION, "xcom_conn_id", fallback=TitanHook.default_conn_name)).get_conn()


def _forget(place: str) -> None:
    """Empty the place, so that no job reads this task's earlier value."""
    try:
        _client().store_put(place, "")
    except TitanError as exc:
        raise TitanXComError(f"the earlier value at {place!r} cannot be forgotten: {exc}") from exc
    _placed.discard(place)


def _threshold() -> int:
    return int(conf.getint(_SECTION, "xcom_threshold", fallback=_THRESHOLD))


def _compress() -> bool:
    choice = conf.get(_SECTION, "xcom_compression", fallback="none")
    if choice not in ("none", "zlib"):
        raise TitanXComError(f"[{_SECTION}] xcom_compression is {choice!r}; use none or zlib")
    return bool(choice == "zlib")


def _preview() -> int:
    return int(conf.getint(_SECTION, "xcom_preview", fallback=80))


def _from_job(plain: Any) -> Reference | None:
    """The reference that a job has made its result, or None if the value is not such a reference.

    :raises NotFound: the job's value is gone
    """
    try:
        reference = Reference.from_json(plain)
    except CorruptData:
        return None
    return reference if reference is not None and xcom.was_written_by_a_job(_client(), reference) else None
