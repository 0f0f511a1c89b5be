"""A control plane over a real database in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from intertie.controlplane import migrate
from intertie.controlplane.control import Control
from intertie.core.terms import Price
from intertie.settings import Settings

NOW = 1_800_000_000.0
CATALOGUE = {("openai", "m"): Price(2_000_000, 8_000_000, source="catalogue")}


def opened(folder: Path) -> Control:
    """The folder's control plane, as a gateway opens it at start."""
    return migrate.start(
        Settings(data=folder), clock=lambda: NOW, prices=lambda provider, model: CATALOGUE.get((provider, model))
    )


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """A new one."""
    made = opened(tmp_path / "home")
    yield made
    made.database.close()
