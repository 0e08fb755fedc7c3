from __future__ import annotations

import pytest
from host import warm_up


@pytest.fixture(scope="session", autouse=True)
def _warm() -> None:
    warm_up()
