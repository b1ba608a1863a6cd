"""The connection form in a browser: type Titan is there, can be filled, saved, tested and opened again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.conftest import Master
from tests.e2e.airflow_server import AirflowServer

CONN_ID = "titan_from_the_form"


def choose_type(page: Any, name: str) -> None:
    page.get_by_role("dialog").get_by_role("combobox").click()
    page.keyboard.type(name)
    page.get_by_role("option", name=name, exact=True).click()


def save(page: Any) -> None:
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog").wait_for(state="hidden")


def test_connection_form_can_be_filled_saved_tested_and_reopened(
    page: Any, airflow: AirflowServer, cluster: Master, keep_screenshot: Callable[[str], None]
) -> None:
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").first.click()
    page.locator('[name="connection_id"]').fill(CONN_ID)
    choose_type(page, "Titan")
    page.get_by_label("Master host").or_(page.locator('[name="host"]')).first.fill(cluster.host)
    page.locator('[name="port"]').fill(str(cluster.port))
    page.get_by_role("button", name="Extra Fields", exact=True).click()
    page.locator('[name="element_worker_address"]').fill(cluster.address)
    keep_screenshot("1-filled")
    save(page)

    stored = airflow.api("GET", f"connections/{CONN_ID}")
    assert (stored["conn_type"], stored["host"], stored["port"]) == ("titan", cluster.host, cluster.port)
    assert cluster.address in stored["extra"]

    row = page.get_by_role("row").filter(has_text=CONN_ID)
    with page.expect_response("**/connections/test") as answered:
        row.get_by_role("button", name=re.compile("Test Connection", re.I)).click()
    tested = answered.value.json()
    assert tested["status"] is True, tested
    assert "2 GENERAL" in tested["message"] or "GENERAL 2" in tested["message"]
    page.get_by_text("Test Connection Successful").wait_for()
    keep_screenshot("2-tested")

    row.get_by_role("button", name=re.compile("Edit Connection", re.I)).click()
    assert page.locator('[name="port"]').input_value() == str(cluster.port)
    page.get_by_role("button", name="Extra Fields", exact=True).click()
    assert page.locator('[name="element_worker_address"]').input_value() == cluster.address
    keep_screenshot("3-reopened")
