"""Hints for what was mistyped."""

from __future__ import annotations

from intertie.agent.wording import nearest


def test_the_nearest_known_word_is_offered() -> None:
    """If one is near at all."""
    assert nearest("idel_minutes", ["mode", "idle_minutes"]) == ' (did you mean "idle_minutes"?)'
    assert nearest("Mod", ["mode", "hours"]) == ' (did you mean "mode"?)'
    assert nearest("zebra", ["mode", "hours"]) == ""
