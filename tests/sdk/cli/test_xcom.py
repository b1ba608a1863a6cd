"""titan xcom gc: against the bundled master, and one that can neither list nor delete."""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from titan_sdk import NotSupported, ServerInfo, TitanClient, xcom
from titan_sdk.xcom import Reference, encode, make_key, place_key, store, write_xcom

DAY = 86400.0


@pytest.fixture
def dag() -> str:
    """A DAG id of this test's own: the store is shared."""
    return f"gc-{secrets.token_hex(4)}"


def written(age: float, patch: pytest.MonkeyPatch) -> None:
    """The keys that are made now say that this was so many seconds ago."""
    then = time.time() - age
    patch.setattr(xcom, "time", SimpleNamespace(time=lambda: then))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xcom, "PART_CHARS", 3)


def put(client: TitanClient, dag: str, task: str, age: float, monkeypatch: pytest.MonkeyPatch) -> Reference:
    """A value of three parts, written so many seconds ago, and its place."""
    with monkeypatch.context() as patch:
        written(age, patch)
        reference, pieces = encode(make_key(dag, "r", task, -1, "k"), '"abcdef"', compress=False, preview=9)
    store(client, reference, pieces)
    client.store_put(place_key(dag, "r", task, -1, "k"), json.dumps(reference.to_json()))
    return reference


@pytest.fixture
def airflow(tmp_path: Path) -> Any:
    """A Python that prints these references and a forged one, as Airflow's would with the provider."""

    def make(*references: Reference) -> str:
        forged = {
            "titan_xcom": 1,
            "key": "team-b:model",
            "sha256": "",
            "bytes": 1,
            "preview": "",
            "parts": 9**9,
        }
        answer = json.dumps([forged, *(reference.to_json() for reference in references)])
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\nprint('a warning')\nprint({answer!r})\n")
        path.chmod(0o755)
        return str(path)

    return make


def keys(ran: Any, dag: str) -> list[str]:
    return [value["key"] for value in ran.json["values"] if f":{dag}/" in value["key"]]


def test_old_values_are_listed_then_deleted_with_their_places(
    titan: Any, client: TitanClient, dag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put(client, dag, "old", 40 * DAY, monkeypatch)
    young = put(client, dag, "young", 2 * DAY, monkeypatch)
    listed = titan("xcom", "gc", "--older-than", "30d", "--json")
    assert (keys(listed, dag), listed.json["deleted"]) == ([old.key], False)
    shown = titan("xcom", "gc", "--older-than", "30d").out
    assert f"{old.key}  6w  old\n" in shown
    assert "nothing was deleted, repeat it with --delete" in shown
    assert len(client.store_keys(f"titan:xcom:{dag}/")) == 6
    deleted = titan("xcom", "gc", "--older-than", "30d", "--delete", "--json")
    assert (keys(deleted, dag), deleted.json["deleted"]) == ([old.key], True)
    assert client.store_keys(f"titan:xcom:{dag}/") == young.part_keys
    assert client.store_keys(f"titan:xcom-at:{dag}/") == [place_key(dag, "r", "young", -1, "k")]
    assert keys(titan("xcom", "gc", "--older-than", "30d", "--json"), dag) == []


def test_values_that_airflow_does_not_refer_to_are_collected_after_a_while(
    titan: Any, client: TitanClient, dag: str, airflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    referred = put(client, dag, "referred", 40 * DAY, monkeypatch)
    lost = put(client, dag, "lost", 2 * DAY, monkeypatch)
    fresh = put(client, dag, "fresh", 60, monkeypatch)
    ran = titan("xcom", "gc", "--airflow", "--airflow-python", airflow(referred), "--delete", "--json")
    assert keys(ran, dag) == [lost.key]
    assert {value["why"] for value in ran.json["values"]} == {"no XCom of Airflow refers to it"}
    assert set(client.store_keys(f"titan:xcom:{dag}/")) == {*referred.part_keys, *fresh.part_keys}


def test_what_a_job_wrote_is_collected_too_and_what_is_not_ours_never(
    titan: Any, client: TitanClient, dag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITAN_JOB_ID", f"DAG-{dag}")
    with monkeypatch.context() as patch:
        written(40 * DAY, patch)
        by_job = write_xcom(client, 1)
    foreign = [
        f"titan:xcom:{dag}/mine",
        f"titan:xcoms:{dag}/5f5e100-0123456789ab",
        f"{dag}/5f5e100-0123456789ab",
    ]
    for key in foreign:
        client.store_put(key, "x")
    titan("xcom", "gc", "--older-than", "30d", "--delete")
    assert client.store_keys(by_job["key"]) == []
    assert [client.store_get(key) for key in foreign] == ["x"] * 3


@pytest.fixture
def real_titan(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> None:
        raise NotSupported("store_keys: a real Titan cannot")

    monkeypatch.setattr(TitanClient, "store_keys", cannot)
    monkeypatch.setattr(TitanClient, "store_delete", cannot)
    monkeypatch.setattr(TitanClient, "server_info", lambda _: ServerInfo("titan"))


@pytest.mark.usefixtures("real_titan")
def test_on_a_real_titan_what_can_be_reached_is_emptied_and_the_rest_is_named(
    titan: Any, client: TitanClient, dag: str, airflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put(client, dag, "old", 40 * DAY, monkeypatch)
    young = put(client, dag, "young", DAY, monkeypatch)
    options = ["--airflow", "--airflow-python", airflow(old, young), "--older-than", "30d"]
    assert keys(titan("xcom", "gc", *options, "--json"), dag) == [old.key]
    assert client.store_get(old.part_keys[0])
    ran = titan("xcom", "gc", *options, "--delete")
    assert "1 XCom values that Airflow still refers to overwritten with nothing." in ran.out
    assert "values that Airflow does not refer to any more cannot be found, and stay." in ran.out
    assert {client.store_get(key) for key in [old.key, *old.part_keys]} == {""}
    assert client.store_get(young.part_keys[0])


@pytest.mark.usefixtures("real_titan")
@pytest.mark.parametrize("options", [["--older-than", "1d"], ["--airflow"]])
def test_on_a_real_titan_one_rule_alone_reaches_nothing(titan: Any, airflow: Any, options: list[str]) -> None:
    ran = titan("xcom", "gc", "--airflow-python", airflow(), *options)
    assert ran.code != 0
    assert "can neither list nor delete" in ran.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing to go by; give --airflow, --older-than, or both"),
        (
            ["--older-than", "soon"],
            "--older-than 'soon' is not a number of seconds above 0, a text such as '10m'",
        ),
        (["--older-than", "30"], "--older-than '30' has no unit; write 30d for days"),
        (["--airflow", "--airflow-python", "/bin/false"], "Airflow's XComs cannot be read with /bin/false"),
    ],
)
def test_what_makes_no_sense_is_refused(titan: Any, options: list[str], words: str) -> None:
    ran = titan("xcom", "gc", *options)
    assert ran.code == 2
    assert words in ran.err
