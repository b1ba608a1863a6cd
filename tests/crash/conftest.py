from __future__ import annotations

import pytest

from tests.crash.power import need_strace


@pytest.fixture(scope="session")
def strace() -> str:
    try:
        return need_strace()
    except LookupError as exc:
        pytest.skip(str(exc))
