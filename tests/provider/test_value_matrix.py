"""The table of docs/values.md: each type as an argument, a result and an XCom, on two kinds of workers. Every cell is what a
run found; the rows of packages that are not installed here are left out of the comparison.
"""

from __future__ import annotations

import datetime as dt
import decimal
import pathlib
import subprocess
import sys
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Master
from tests.rules.test_docs import page
from tests.sdk.values import orders, shop
from tests.support.airflow_run import unique
from titan_provider.values import received, to_json
from titan_provider.xcom import titan_store
from titan_provider.xcom.titan_store import TitanStoreXComBackend as Backend
from titan_sdk import DagFailed, TitanClient, TitanJob, UnreadableValue, values

# Slow: about seventy jobs, in three DAGs.
pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_connection"), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
CLASSES = "tests.sdk.values.*"
SCRIPT = f"""
import titan_job
given = titan_job.read_params(allowed_classes=[{CLASSES!r}])
titan_job.result((type(given).__name__, given))
"""


def types() -> dict[str, Any]:
    """A value of each type, by the type's name in the table."""
    rows: dict[str, Any] = {
        "None, bool, int, float, str, list, dict": [None, True, -(10**30), 1.5, "ü\0", {"a": {}}],
        "nan, infinities, -0.0": [float("nan"), float("inf"), -float("inf"), -0.0],
        "int of more than 4,000 digits": 10**5000,
        "bytes, bytearray": [b"\x00\xff", bytearray(b"x")],
        "tuple": (1, ("a",)),
        "set, frozenset": [{1, "a"}, frozenset({(1,)})],
        "dict with other keys": {1: "a", (2, b"x"): None, None: 0.5, dt.date(2026, 1, 2): []},
        "datetime": [dt.datetime(2026, 1, 2, 3, 4, 5, 6), dt.datetime(2026, 1, 2, tzinfo=dt.UTC)],  # noqa: DTZ001
        "datetime in a zone, with fold": dt.datetime(
            2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")
        ),
        "date, time, timedelta": [dt.date(2026, 1, 2), dt.time(3, 4, tzinfo=dt.UTC), dt.timedelta(-1, 2, 3)],
        "Decimal": decimal.Decimal("-0.10"),
        "UUID": uuid.UUID(int=7),
        "Path": [pathlib.Path("/data/x"), pathlib.PureWindowsPath("c:\\x")],
        "Enum": [shop.Colour.BLUE, shop.Size.SMALL, shop.Right.READ | shop.Right.WRITE],
        "NamedTuple": shop.Point(1, (2,)),
        "dataclass": shop.Item("x", (1,)),
        "pydantic model": orders.Order(number=1, items=(1,)),
        "numpy scalar": [np.int16(3), np.datetime64("2026-01-02")],
        "numpy array": np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
    }
    try:
        import pandas as pd
    except ImportError:
        pass
    else:
        frame = pd.DataFrame(
            {"t": pd.date_range("2026-01-01", periods=2, tz="Asia/Tokyo"), "c": pd.Categorical(["x", "y"])}
        )
        rows["pandas DataFrame"] = frame.set_index([["a", "b"], [1, 2]])
        rows["pandas Series"] = pd.Series([1, None], dtype="Int64", name="n")
    try:
        import polars as pl
    except ImportError:
        pass
    else:
        rows["polars DataFrame"] = pl.DataFrame({"a": [[1], [2, 3]], "s": ["x", None]})
    return rows


def same(a: Any, b: Any) -> bool:
    """Equal in type and content: the JSON form of a value has all of it."""
    return type(a) is type(b) and values.dump(a) == values.dump(b)


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The two kinds of workers: one with this environment's packages, one with Python alone."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=300)
    return {"with": sys.executable, "without": str(folder / "bin" / "python")}


@pytest.fixture
def found(
    cluster: Master, pythons: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Run one job per value and kind of worker, all of them at once; what each came back as, or why not."""
    monkeypatch.setenv("AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", f"airflow.* {CLASSES}")
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", f"{Backend.__module__}.{Backend.__name__}")
    titan_store._client.cache_clear()
    with TitanClient(cluster.host, cluster.port) as client:

        def run(params: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
            ids = {unique(f"m{n}"): key for n, key in enumerate(params)}
            jobs = [
                TitanJob(
                    job_id,
                    source=SCRIPT,
                    params=params[key],
                    python=pythons[key[1]],
                    env={"PYTHONPATH": ":".join([*path_of(key[1]), str(ROOT)])},
                )
                for job_id, key in ids.items()
            ]
            handle = client.submit_dag(unique("matrix"), jobs)
            try:
                report = handle.wait(timeout=300)
            except DagFailed as exc:
                report = exc.dag_report
            reports = {found.job_id.removeprefix("DAG-"): found for found in report.jobs}
            return {key: reports[job_id] for job_id, key in ids.items()}

        yield run
    titan_store._client.cache_clear()


def path_of(kind: str) -> list[str]:
    """Where the packages are that the full worker has beside its own."""
    return [entry for entry in sys.path if entry and "lib/python" not in entry] if kind == "with" else []


def outcome(report: Any, value: Any) -> tuple[str, Any]:
    """The word for the argument's cell, and the result."""
    if report.state != "COMPLETED":
        message = report.exception.message if report.exception else str(report.reason)
        assert "install it" in message or "cannot be imported" in message, message
        return "no", None
    name, back = values.load(report.received, allowed_classes=[CLASSES])
    assert name == type(value).__name__
    return ("yes" if same(back, value) else "changed"), back


class Row:
    """A row of Airflow's table of XComs, as its backend reads it."""

    def __init__(self, value: Any) -> None:
        self.value = value


def through_airflow(report: Any) -> tuple[Any, Any]:
    """A result as the XCom of its task: as Airflow's own backend could keep it, and as ours gives it back."""
    pushed = received(report)
    stored = Backend.serialize_value(pushed, key="return_value", task_id="t", dag_id="d", run_id="r")
    return pushed, Backend.deserialize_value(Row(stored))


def test_the_table_is_what_runs_find(found: Callable[..., Any]) -> None:
    rows = types()
    cells: dict[str, dict[str, list[str]]] = {name: {} for name in rows}
    first = found({(name, kind): value for name, value in rows.items() for kind in ("with", "without")})
    second: dict[tuple[str, str], Any] = {}
    for (name, kind), report in first.items():
        value = rows[name]
        argument, back = outcome(report, value)
        if argument == "no":
            cells[name][kind] = ["no", "-", "-"]
            second[name, kind] = None
            continue
        pair = through_airflow(report)[1]
        in_airflow = same(pair[1], value)
        cells[name][kind] = [
            argument,
            "yes" if back is not None else "changed",
            "yes" if in_airflow else "no",
        ]
        second[name, kind] = to_json(pair[1], "argument")
    # A worker without the packages still gets what one with them has pushed.
    params = {
        (name, kind): second[name, kind] if second[name, kind] is not None else second[name, "with"]
        for name, kind in second
    }
    for (name, kind), report in found(params).items():
        cells[name][kind].append(outcome(report, rows[name])[0])
    table = [
        f"| {name} | "
        + " | ".join(f"{a} / {b}" for a, b in zip(kinds["with"], kinds["without"], strict=True))
        + " |"
        for name, kinds in cells.items()
    ]
    print("\n".join(table))
    shown = {line.split(" | ")[0]: line for line in page("values.md").splitlines() if " / " in line}
    assert [line for line in table if shown.get(line.split(" | ")[0]) != line] == []


def test_a_class_that_airflow_does_not_allow_goes_from_job_to_job_all_the_same(
    found: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", "airflow.*")
    item = shop.Item("x", (1,))
    (report,) = found({("item", "with"): {"item": item}}).values()
    form = report.received["value"]["v"][1]
    stored = Backend.serialize_value({"titan_value": 1, "value": form}, key="k")
    xcom = Backend.deserialize_value(Row(stored))
    assert values.is_envelope(xcom["item"])
    assert (
        "shop.Item, which is not allowed here; to read it, add it to [core] allowed_deserialization_classes"
        in (caplog.text)
    )
    with pytest.raises(UnreadableValue, match="allowed_classes="):
        values.load(xcom["item"])
    (report,) = found({("item", "with"): to_json(xcom, "argument")}).values()
    assert values.load(report.received, allowed_classes=[CLASSES])[1] == {"item": item}
