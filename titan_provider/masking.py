"""Secrets in a job's environment: masked wherever its log is copied, in the task's process and in the triggerer."""

from __future__ import annotations

from collections.abc import Mapping

from titan_provider.compat import amask_secret, mask_secret

__all__ = ["amask_env", "mask_env"]


def mask_env(env: Mapping[str, str] | None) -> None:
    """Mask the values whose names Airflow takes for a secret's, from now on, in this process's logs.

    :param env: environment variables of a job
    """
    for name, value in (env or {}).items():
        mask_secret(value, name)


async def amask_env(env: Mapping[str, str]) -> None:
    """As :func:`mask_env`, for the triggerer, whose event loop must not wait for Airflow's answer.

    :param env: environment variables of a job
    """
    for name, value in env.items():
        await amask_secret(value, name)
