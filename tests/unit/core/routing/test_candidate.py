"""A target as a plan lists it."""

from __future__ import annotations

from tests.unit.core.routing.grid import MODEL, candidate


def test_the_key_of_a_candidate_names_upstream_and_model() -> None:
    """Two models of one upstream have circuits of their own."""
    assert candidate("a").key == ("a", MODEL)
