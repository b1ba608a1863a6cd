"""The former place of :class:`TitanJobTrigger`, which rows of Airflow's database name that an earlier version has written."""

from __future__ import annotations

from titan_provider.triggers.job import TitanJobTrigger

__all__ = ["TitanJobTrigger"]
