"""The table of settings in docs/cluster.md is the one that the settings make."""

from __future__ import annotations

from tests.rules.sources import ROOT
from titan_sdk.cluster.engines.ray.settings import RaySettings
from titan_sdk.cluster.settings import ClusterSettings
from titan_sdk.cluster.settings_fields import Setting, settings_of


def shown(setting: Setting, default: object) -> str:
    """The default as the option would be given, else as Python has it."""
    if setting.unit is not None and isinstance(default, int | float):
        return f"{default / setting.per_unit:g} {setting.unit}"
    if isinstance(default, dict):
        return ", ".join(f"{key}={value}" for key, value in default.items())
    if default is None or default is False or default == "":
        return ""
    return f"{default:,}" if isinstance(default, int) and default > 10**6 else f"{default}"


def table() -> str:
    rows = ["| setting | `titan up` | default | meaning |", "|---|---|---|---|"]
    for of, prefix in ((ClusterSettings, ""), (RaySettings, "ray.")):
        for each, setting, default in settings_of(of):
            made = "" if each.name == "data_dir" else shown(setting, default)
            option = f"`{setting.flag}`" if setting.flag else ""
            rows.append(f"| `{prefix}{each.name}` | {option} | {made} | {setting.text} |")
    return "\n".join(rows) + "\n"


def test_the_table_says_what_the_settings_say() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert table() in page
