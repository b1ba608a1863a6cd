"""The connection form in a browser: type Titan is there, can be filled, saved, tested and opened again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import Standalone
from titan_provider.get_provider_info import get_provider_info
from titan_sdk.cluster import LocalCluster

CONN_ID = "titan_from_the_form"
TOKEN = "a-token-that-nobody-may-read"
FIELDS = get_provider_info()["connection-types"][0]["conn-fields"]  # type: ignore[index]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[LocalCluster]:
    """A master that answers nobody without its token."""
    with LocalCluster({"GENERAL": 2, "GPU": 1}, token=TOKEN, data_dir=tmp_path) as running:
        yield running


def choose_type(page: Any, name: str) -> None:
    page.get_by_role("dialog").get_by_role("combobox").click()
    page.keyboard.type(name)
    page.get_by_role("option", name=name, exact=True).click()


def save(page: Any) -> None:
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog").wait_for(state="hidden")


def press_test(page: Any, conn_id: str = CONN_ID) -> dict[str, Any]:
    """What Airflow answers the Test button."""
    row = page.get_by_role("row").filter(has_text=conn_id)
    with page.expect_response("**/connections/test") as answered:
        row.get_by_role("button", name=re.compile("Test Connection", re.I)).click()
    tested: dict[str, Any] = answered.value.json()
    return tested


def reopen(page: Any) -> None:
    row = page.get_by_role("row").filter(has_text=CONN_ID)
    row.get_by_role("button", name=re.compile("Edit Connection", re.I)).click()
    page.get_by_role("button", name="Extra Fields", exact=True).click()


def extra(page: Any, name: str) -> Any:
    return page.locator(f'[name="element_{name}"]')


def test_connection_form_can_be_filled_saved_tested_and_reopened(
    page: Any, airflow: Standalone, guarded: LocalCluster, keep_screenshot: Callable[[str], None]
) -> None:
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").first.click()
    page.locator('[name="connection_id"]').fill(CONN_ID)
    choose_type(page, "Titan")
    host, port = page.locator('[name="host"]'), page.locator('[name="port"]')
    assert [box.get_attribute("placeholder") for box in (host, port)] == ["localhost", "9090"]
    host.fill(guarded.host)
    port.fill(str(guarded.port))
    page.get_by_role("button", name="Extra Fields", exact=True).click()
    assert [name for name in FIELDS if not extra(page, name).count()] == []
    extra(page, "worker_address").fill(guarded.address)
    extra(page, "auth_token").fill(TOKEN)
    extra(page, "auth_token").scroll_into_view_if_needed()
    keep_screenshot("1-filled")
    save(page)

    stored = airflow.api("GET", f"connections/{CONN_ID}")
    assert (stored["conn_type"], stored["host"], stored["port"]) == ("titan", guarded.host, guarded.port)
    assert guarded.address in stored["extra"]
    assert TOKEN not in stored["extra"]

    tested = press_test(page)
    assert tested["status"] is True, tested
    assert "GENERAL 2, GPU 1" in tested["message"]
    page.get_by_text("Test Connection Successful").wait_for()
    keep_screenshot("2-tested")

    reopen(page)
    assert page.locator('[name="port"]').input_value() == str(guarded.port)
    assert extra(page, "worker_address").input_value() == guarded.address
    assert extra(page, "auth_token").get_attribute("type") == "password"
    assert TOKEN not in page.content()
    assert extra(page, "auth_token").input_value() == "***"
    extra(page, "auth_token").scroll_into_view_if_needed()
    keep_screenshot("3-reopened")

    # Saved with its stars, the token is still the one that was typed.
    extra(page, "dashboard_url").fill("http://titan.example:5000")
    save(page)
    assert "titan.example" in airflow.api("GET", f"connections/{CONN_ID}")["extra"]
    assert press_test(page)["status"] is True


def test_the_test_button_says_what_is_wrong(
    page: Any, airflow: Standalone, guarded: LocalCluster, keep_screenshot: Callable[[str], None]
) -> None:
    conn_id = "titan_without_its_token"
    body = {"connection_id": conn_id, "conn_type": "titan", "host": guarded.host, "port": guarded.port}
    airflow.api("POST", "connections", json=body)
    page.goto("/connections")
    tested = press_test(page, conn_id)
    assert tested["status"] is False
    assert "token" in tested["message"]
    page.get_by_text(tested["message"]).first.wait_for()
    keep_screenshot("4-refused")


def test_an_empty_port_is_saved_and_only_the_test_button_wants_it(
    page: Any, airflow: Standalone, guarded: LocalCluster
) -> None:
    """As README and docs/operators.md say: Airflow sends an empty port as 0 there, and 0 is not what is stored."""
    conn_id = "titan_without_a_port"
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").first.click()
    page.locator('[name="connection_id"]').fill(conn_id)
    choose_type(page, "Titan")
    page.locator('[name="host"]').fill(guarded.host)
    save(page)
    assert airflow.api("GET", f"connections/{conn_id}")["port"] is None
    tested = press_test(page, conn_id)
    assert "host or port to test differs from the stored connection" in tested["detail"]
