"""What the XCom backend needs of Airflow, on 2.11 and 3, and nothing more.

Airflow imports its XCom backend in the middle of its own imports, which may have been started by
``titan_provider.compat``. So nothing that the backend imports may import that module: this is its part of it.
"""

from __future__ import annotations

import json
from typing import Any

try:
    from airflow.sdk.bases.xcom import BaseXCom

    _is_bytes = False
except ModuleNotFoundError:  # Airflow 2
    from airflow.models.xcom import BaseXCom  # type: ignore[no-redef]

    _is_bytes = True

__all__ = ["BaseXCom", "database_to_plain", "plain_to_database"]


def database_to_plain(value: Any) -> Any:
    """JSON values behind what an XCom backend hands to or gets from the database: bytes of JSON on Airflow 2."""
    return json.loads(value) if _is_bytes else value


def plain_to_database(value: Any) -> Any:
    """The reverse of :func:`database_to_plain`."""
    return json.dumps(value).encode() if _is_bytes else value
