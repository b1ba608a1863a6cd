"""From Airflow's log to what a person wants to see of a DAG run: which task, and what its job says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_STARTING = re.compile(r"\[DAG TEST\] starting task_id=(\S+)")
# The provider's own loggers, and `self.log` of its operators, sensors and hooks.
_OURS = re.compile(r"^(titan_provider|airflow\.task\.\w+\.titan_provider|airflow\.task\.\w+\..*\.?Titan)")


@dataclass(frozen=True)
class Shown:
    """One line for the terminal. `task` is set on the line that opens a task."""

    text: str
    kind: str  # "task", "log" or "error"


class TaskLogFilter:
    """Reads `airflow dags test` with `[logging] json_logs` on, line by line."""

    def __init__(self) -> None:
        self._in_task = False

    def show(self, line: str) -> Shown | None:
        """What to print for this line, or None for Airflow's own noise."""
        entry = _entry(line)
        if entry is None:
            # A bare line is something that a task printed.
            return Shown(line.rstrip(), "log") if self._in_task and line.strip() else None
        event, logger = str(entry.get("event", "")), str(entry.get("logger", ""))
        if started := _STARTING.search(event):
            self._in_task = True
            return Shown(started[1], "task")
        if event.startswith("[DAG TEST] end task"):
            self._in_task = False
        if entry.get("level") in {"error", "critical"}:
            return Shown(_with_exception(event, entry), "error")
        return Shown(event, "log") if _OURS.match(logger) and event else None


def _entry(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _with_exception(event: str, entry: dict[str, Any]) -> str:
    details = entry.get("error_detail") or entry.get("exception")
    if isinstance(details, list) and details and isinstance(details[0], dict):
        return f"{event}: {details[0].get('exc_type')}: {details[0].get('exc_value')}"
    return event
