"""Secrets in a job's environment: masked wherever its log is copied, in the task's process and in the triggerer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from titan_provider.compat import amask_secret, mask_secret

__all__ = ["amask_env", "env_texts", "mask_env"]


def env_texts(env: Any) -> dict[str, str]:
    """The variables as the job will see them; none where ``env`` is nothing that a job could be given.

    :param env: what the user wrote as a job's environment
    """
    if not isinstance(env, Mapping):
        return {}
    return {
        str(name): str.__str__(value) if isinstance(value, str) else str(value) for name, value in env.items()
    }


def mask_env(env: Any) -> None:
    """Mask the values whose names Airflow takes for a secret's, from now on, in this process's logs.

    :param env: environment variables of a job
    """
    for name, value in env_texts(env).items():
        mask_secret(value, name)


async def amask_env(env: Any) -> None:
    """As :func:`mask_env`, for the triggerer, whose event loop must not wait for Airflow's answer.

    :param env: environment variables of a job
    """
    for name, value in env_texts(env).items():
        await amask_secret(value, name)
