"""``python -m titan_provider.xcom.references``: every reference to TitanStore in Airflow's database, as one JSON list.

``titan xcom gc`` runs this module where Airflow's own commands run. It reads the database and changes nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["references"]


def references() -> Iterator[dict[str, Any]]:
    """The references in their stored form."""
    from airflow.utils.session import create_session

    from titan_sdk.xcom import MARK

    with create_session() as session:
        for (value,) in session.query(_model().value).yield_per(1000):
            plain = _plain(value)
            if isinstance(plain, dict) and plain.get(MARK) == 1:
                yield plain


def _model() -> Any:
    try:
        from airflow.models.xcom import XComModel
    except ImportError:  # Airflow 2
        from airflow.models.xcom import XCom

        return XCom
    return XComModel


def _plain(value: Any) -> Any:
    """The JSON value of a row. Airflow 3 has a JSON column with JSON or its text; Airflow 2 stores its bytes."""
    for _ in range(2):
        if not isinstance(value, str | bytes):
            break
        try:
            value = json.loads(value)
        except ValueError:
            break
    return value


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(list(references())) + "\n")
