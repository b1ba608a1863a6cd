"""The connection form in a browser: type Titan is there, can be filled, tested, saved and opened again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.conftest import Master
from tests.e2e.airflow_server import AirflowServer

CONN_ID = "titan_from_the_form"


def test_connection_form(
    page: Any, airflow: AirflowServer, cluster: Master, keep_screenshot: Callable[[str], None]
) -> None:
    page.goto("/connections")
    page.get_by_role("button", name=re.compile("Add Connection", re.I)).first.click()
    page.locator('[name="connection_id"]').fill(CONN_ID)
    keep_screenshot("1-empty")
