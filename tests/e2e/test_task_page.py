"""A task's page in a browser: the remote job's log, and the link to the dashboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.lab import Standalone
from tests.support.http_dashboard import HttpDashboard

DAG = "example_titan_deferrable"
TASK = "count_down"


def test_task_page_shows_the_log_and_leads_to_the_dashboard(
    page: Any, airflow: Standalone, dashboard: HttpDashboard, keep_screenshot: Callable[[str], None]
) -> None:
    run_id = airflow.run_dag(DAG, seconds=240)
    links = airflow.api("GET", f"dags/{DAG}/dagRuns/{run_id}/taskInstances/{TASK}/links")["extra_links"]
    url = links["Titan job log"]
    assert url.startswith(f"{dashboard.url}/api/logs_raw/DAG-")
    dashboard.answers[f"GET {urlsplit(url).path}"] = (200, "2 s left\n1 s left\n")

    page.goto(f"/dags/{DAG}/runs/{run_id}/tasks/{TASK}")
    # Not folded away: a job's lines are what somebody who opens this page wants to see.
    page.get_by_text("2 s left").first.wait_for()
    # Each line once; what the job told as its progress is a line of its own.
    printed = [line for left in (2, 1) for line in page.get_by_text(f"{left} s left").all_inner_texts()]
    assert len([line for line in printed if "Progress" not in line]) == 2
    keep_screenshot("2-log")

    page.get_by_role("tab", name="Details").or_(page.get_by_role("link", name="Details")).first.click()
    page.get_by_role("link", name="Titan job log").scroll_into_view_if_needed()
    keep_screenshot("3-details")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Titan job log").click()
    opened.value.get_by_text("1 s left").wait_for()
    assert opened.value.url == url
