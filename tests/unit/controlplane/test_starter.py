"""The first configuration file."""

from __future__ import annotations

from intertie.controlplane import config
from intertie.controlplane.starter import starter


def test_the_starter_is_a_valid_configuration() -> None:
    """What `up` and the page print works once the variable is set."""
    assert [route.model for route in config.parse(starter()).routes] == ["gpt-4o-mini"]
