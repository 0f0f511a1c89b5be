"""Where a target is, in one word."""

from __future__ import annotations

import pytest

from intertie.controlplane.places import members, word


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"upstream": "acme"}, "acme"),
        ({"node": "rig"}, "node:rig"),
        ({"node_label": "gpu"}, "node_label:gpu"),
    ],
)
def test_a_place_and_its_word_say_the_same(target: dict[str, str], said: str) -> None:
    """Both ways, and members that say nothing do not matter."""
    absent = dict.fromkeys(("upstream", "node", "node_label"))
    assert word({**absent, **target, "model": "m"}) == said
    assert members(said) == target


def test_nowhere_is_no_word() -> None:
    """A malformed target has one, too."""
    assert word({"model": "m"}) == ""


def test_what_is_no_kind_of_place_is_an_upstreams_name() -> None:
    """It is refused where names are checked."""
    assert members("nodes:rig") == {"upstream": "nodes:rig"}
