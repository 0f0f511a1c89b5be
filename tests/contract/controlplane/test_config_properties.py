"""Whatever a configuration file holds, it parses or says why not."""

from __future__ import annotations

import contextlib
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from intertie.controlplane import config
from intertie.controlplane.config import ConfigProblems

NAMES = st.sampled_from(
    ["upstreams", "routes", "projects", "settings", "keys", "name", "models", "price", "targets", "model"]
)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()


TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | SCALARS, inner, max_size=4)
)


@settings(max_examples=120)
@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_f81_any_values_are_answered_with_problems(tree: dict[str, Any]) -> None:
    """A document either parses or says why not; nothing else is raised."""
    with contextlib.suppress(ConfigProblems):
        config.parse(yaml.safe_dump(tree))
