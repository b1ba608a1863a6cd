from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

import titan_provider
from tests.support.airflow_version import needs_airflow_3
from titan_provider.get_provider_info import get_provider_info

# Slow: Airflow reads all its providers in processes of its own.
pytestmark = pytest.mark.slow

INFO: dict[str, Any] = get_provider_info()
CONNECTION: dict[str, Any] = INFO["connection-types"][0]


def modules() -> list[str]:
    kinds = ("hooks", "operators", "sensors", "triggers")
    return [module for kind in kinds for entry in INFO[kind] for module in entry["python-modules"]]


def test_it_follows_airflows_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


def test_the_package_name_is_the_distributions() -> None:
    """Airflow refuses every provider, not only this one, when they differ."""
    assert INFO["package-name"] == "airflow-provider-titan"


def test_every_module_it_names_exists() -> None:
    names = modules()
    assert names
    for name in names:
        importlib.import_module(name)


def test_every_trigger_is_named() -> None:
    folder = Path(titan_provider.__file__).parent / "triggers"
    named = re.compile(r"^class Titan\w+Trigger\(", re.MULTILINE)
    written = {path.stem for path in folder.glob("*.py") if named.search(path.read_text())}
    assert written
    assert {f"titan_provider.triggers.{stem}" for stem in written} <= set(modules())


def test_the_hook_class_exists_and_fits_the_connection_type() -> None:
    module, name = CONNECTION["hook-class-name"].rsplit(".", 1)
    hook_class = getattr(importlib.import_module(module), name)
    assert hook_class.conn_type == CONNECTION["connection-type"]
    assert hook_class.hook_name == CONNECTION["hook-name"]
    assert hook_class(**{hook_class.conn_name_attr: "some_id"}).titan_conn_id == "some_id"


@pytest.mark.parametrize("field", CONNECTION["conn-fields"].values(), ids=CONNECTION["conn-fields"])
def test_a_form_field_may_stay_empty(field: dict[str, Any]) -> None:
    """Airflow's form disables Save when an empty field's type does not allow null."""
    assert "null" in field["schema"]["type"]
    assert field["label"]
    assert field["description"]


def test_the_form_has_placeholders_and_hides_what_titan_lacks() -> None:
    behaviour = CONNECTION["ui-field-behaviour"]
    assert behaviour["placeholders"] == {"host": "localhost", "port": "9090"}
    assert set(behaviour["hidden-fields"]) == {"schema", "login", "password"}


def test_it_is_loaded_without_importing_anything_else() -> None:
    """Airflow loads it unguarded in every process: an import that fails would break them all."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from titan_provider.get_provider_info import get_provider_info; get_provider_info()\n"
        "print(sorted(m for m in set(sys.modules) - before if m != '__future__'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "['titan_provider', 'titan_provider.get_provider_info']", done.stderr


@pytest.mark.airflow
def test_airflow_discovers_the_provider(airflow_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "providers", "get", "airflow-provider-titan", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["Provider"] == "airflow-provider-titan"


@needs_airflow_3("its form comes from the hook's Python methods, see tests/provider/hooks")
@pytest.mark.airflow
def test_the_form_that_airflow_draws(airflow_home: Path) -> None:
    """What the endpoint behind Airflow 3's connection form answers, from metadata alone."""
    code = (
        "import json, sys\n"
        "from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService\n"
        "form = next(h for h in HookMetaService.hook_meta_data() if h.connection_type == 'titan')\n"
        "assert 'titan_provider.hooks.titan' not in sys.modules\n"
        "print(form.model_dump_json())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    form = json.loads(done.stdout.splitlines()[-1])
    fields = {"worker_address", "dashboard_url", "timeout", "max_unfinished"}
    fields |= {"tls", "ca_cert", "client_cert", "client_private_key", "auth_token"}
    assert set(form["extra_fields"]) == fields
    assert form["extra_fields"]["tls"]["schema"]["type"] == ["boolean", "null"]
    assert form["standard_fields"]["host"]["placeholder"] == "localhost"
    assert form["standard_fields"]["port"]["placeholder"] == "9090"
    assert form["standard_fields"]["password"]["hidden"] is True
