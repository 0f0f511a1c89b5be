"""The word lists do not contradict each other."""

from __future__ import annotations

import pytest

from intertie.core.policy import english
from intertie.core.policy.english import DUTY, FILLER, FRAME, LITERAL, MARKERS, NEGATIONS, NO_COMPARISON, OPENERS, SAME


def test_a_word_that_counts_is_not_one_that_may_change_freely() -> None:
    assert not LITERAL & FILLER
    assert not NEGATIONS & FILLER
    assert not SAME.keys() & FILLER


def test_words_that_mean_the_same_lead_to_a_literal_one_and_not_on() -> None:
    assert set(SAME.values()) <= LITERAL | {"meter", "liter", "kilometer", "mile", "minute", "hour", "day", "week",
                                            "month", "year", "dollar", "euro", "versus"}  # fmt: skip
    assert not set(SAME.values()) & SAME.keys()


def test_all_are_in_small_letters() -> None:
    for words in (FILLER, OPENERS, MARKERS, LITERAL, NEGATIONS, NO_COMPARISON, SAME):
        assert all(word == word.lower() for word in words)


def test_words_of_other_languages_are_no_proof_of_english() -> None:
    assert not MARKERS & {"a", "an", "of", "to", "is", "do", "in", "die", "war", "man", "was", "me", "on", "i", "my"}
    assert not MARKERS & NEGATIONS


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Could you please tell me the limit", "the limit"),
        ("Hi! I would like to know the limit", "the limit"),
        ("Thanks. Please explain the limit", "the limit"),
        ("Can you swim", "Can you swim"),
        ("Tell you the limit", "Tell you the limit"),
        ("Who can you tell me about", "Who can you tell me about"),
    ],
)
def test_only_what_says_nothing_is_taken_from_the_front(text: str, rest: str) -> None:
    assert FRAME.sub(r"\g<begin>", text).strip() == rest


def test_duties_are_one_word() -> None:
    assert DUTY.sub("must", "do I have to, he needs to, you have two") == "do I must, he must, you have two"


def test_nothing_is_listed_in_vain() -> None:
    """What would be no comparison anyhow needs no exception."""
    assert all(word.endswith(("er", "est")) for word in NO_COMPARISON)
    assert not NO_COMPARISON & (LITERAL | FILLER)
    assert english.OPENERS > english.FILLER
