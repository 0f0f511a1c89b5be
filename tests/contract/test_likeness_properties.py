"""T46: the literal guard over random questions: one small change of what a question turns on is always noticed."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from intertie.core.policy.likeness import Likeness, likeness, shared, split

WORDS = ("reset", "password", "invoice", "ticket", "garden", "bicycle", "kernel", "contract", "window", "recipe")
NAMES = ("Paris", "Lyon", "Ada", "Bob", "Kotlin", "Rust", "Acme", "Sunday", "Berlin")
SENTENCES = st.lists(st.sampled_from((*WORDS, *NAMES, "the", "my", "of", "in")), min_size=3, max_size=12)
EXAMPLES = settings(max_examples=400, deadline=None)


def of(words: list[str]) -> Likeness:
    found = likeness("How do I " + " ".join(words) + "?", "s")
    assert found is not None
    return found


@EXAMPLES
@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_like_itself_and_likeness_goes_both_ways(one: str, other: str) -> None:
    first, second = likeness(one, "s"), likeness(other, "s")
    if first is None:
        return
    assert shared(first, first) == 1.0
    if second is None:
        return
    assert shared(first, second) == shared(second, first)
    assert 0.0 <= shared(first, second) <= 1.0
    assert (shared(first, second) == 1.0) == (first == second)


@EXAMPLES
@given(st.text(max_size=200))
def test_no_letter_or_digit_is_passed_over_outside_english(text: str) -> None:
    """Every run of letters and digits is in some mark, unless a text is read as English."""
    parts = split(text)
    assume(all(is_mark for _, is_mark in parts))
    assume(not any(word in text.lower() for word in ("the", "are", "how", "what", "you", "it", "if", "do")))
    joined = "".join(word.lower() for word, _ in parts)
    assert sum(map(str.isalnum, joined)) >= sum(map(str.isalnum, text.strip().lower())) * 0.5


@EXAMPLES
@given(SENTENCES, st.integers(0, 10**6), st.integers(0, 10**6), st.data())
def test_another_number_is_another_question(words: list[str], one: int, other: int, draw: st.DataObject) -> None:
    assume(one != other)
    at = draw.draw(st.integers(0, len(words)))
    first, second = ([*words[:at], str(number), *words[at:]] for number in (one, other))
    assert shared(of(first), of(second)) == 0.0
    assert shared(of(first), of(words)) == 0.0


@EXAMPLES
@given(SENTENCES, st.sampled_from(("not", "never", "without", "no", "nicht", "don't")), st.data())
def test_a_negation_is_another_question_wherever_it_stands(
    words: list[str], negation: str, draw: st.DataObject
) -> None:
    at = draw.draw(st.integers(0, len(words)))
    assert shared(of([*words[:at], negation, *words[at:]]), of(words)) == 0.0


@EXAMPLES
@given(SENTENCES, st.data())
def test_things_that_change_places_make_another_question(words: list[str], draw: st.DataObject) -> None:
    meaning = [at for at, word in enumerate(words) if word in WORDS or word in NAMES]
    assume(len(meaning) > 1)
    one, other = draw.draw(st.sampled_from(meaning)), draw.draw(st.sampled_from(meaning))
    assume(words[one] != words[other])
    swapped = list(words)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    assert shared(of(words), of(swapped)) == 0.0


@EXAMPLES
@given(SENTENCES, st.data())
def test_a_thing_exchanged_for_another_makes_another_question_at_any_share(
    words: list[str], draw: st.DataObject
) -> None:
    meaning = [at for at, word in enumerate(words) if word in WORDS or word in NAMES]
    assume(meaning)
    at = draw.draw(st.sampled_from(meaning))
    other = draw.draw(st.sampled_from((*WORDS, *NAMES)))
    assume(other not in words)
    assert shared(of(words), of([*words[:at], other, *words[at + 1 :]])) == 0.0


@EXAMPLES
@given(SENTENCES, st.sampled_from(("please", "the", "really", "a", "kindly")), st.data())
def test_a_courtesy_is_nothing_wherever_it_stands(words: list[str], courtesy: str, draw: st.DataObject) -> None:
    words = words[:4]  # in a longer list of nouns too little is English beyond doubt
    at = draw.draw(st.integers(0, len(words)))
    assert shared(of([*words[:at], courtesy, *words[at:]]), of(words)) == 1.0
