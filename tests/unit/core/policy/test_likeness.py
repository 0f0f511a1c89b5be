"""What must be literally the same in two questions, and what may differ. See tests/support/questions.txt."""

from __future__ import annotations

import pytest

from intertie.core.policy.likeness import LONGEST, Likeness, likeness, shared, split
from tests.support.questions import DIFFERENT, NEW_DIFFERENT, NEW_SAME, SAME


def of(text: str, salt: str = "s") -> Likeness:
    found = likeness(text, salt)
    assert found is not None
    return found


def share(one: str, other: str) -> float:
    return shared(of(one), of(other))


def marks(text: str) -> list[str]:
    return [word for word, is_mark in split(text) if is_mark]


def test_t46_near_misses_differ_whatever_their_vectors_say() -> None:
    pairs = [*DIFFERENT, *NEW_DIFFERENT]
    assert len(pairs) > 150
    assert [pair for pair in pairs if share(*pair) == 1.0] == []
    assert [pair for pair in pairs if share(*reversed(pair)) == 1.0] == []


def test_most_paraphrases_pass() -> None:
    pairs = [*SAME, *NEW_SAME]
    assert sum(share(one, other) == 1.0 for one, other in pairs) >= 0.6 * len(pairs)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("How do I convert 10 km to miles?", ["how", "10", "km", "mile"]),
        ("How do I convert -10.5 Km to miles?", ["how", "-10.5", "km", "mile"]),
        ("Does “disk full” mean that it isn't safe?", ["“disk full”", "not", "safe"]),
        ("What does `git reset --hard` do to a_file.py?", ["`git reset --hard`", "a_file.py"]),
        ("Which port does https://a.test/x?y=1 need?", ["https://a.test/x?y=1", "need"]),
        ("How do I ask O\u2019Brien's team about iPhones?", ["how", "O'Brien", "about", "iPhones"]),
        ("Is the shop open at 5 am in Rome?", ["open", "5", "am", "Rome"]),
        ("What is 5 - 3?", ["5", "-", "3"]),
        ("Does A owe B?", ["A", "B"]),
        ("Who does A owe?", ["who", "A"]),
        ("Do I have to renew it?", ["must"]),
        ("Can you tell me how you work?", ["how", "you"]),
        ("What\n  is this?", ["\n  "]),
    ],
)
def test_what_counts_as_it_is_written(text: str, found: list[str]) -> None:
    assert marks(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "Wie wird das Wetter in Berlin?",
        "Is het waar of niet?",
        "¿Dónde está la estación?",
        "weather paris tomorrow",
        "法国的首都是哪里",
        "Сколько это стоит?",
    ],
)
def test_in_other_languages_every_word_counts(text: str) -> None:
    assert all(is_mark for _, is_mark in split(text))
    assert share(text, text.upper() if text.isascii() else text) == 1.0


def test_case_of_names_counts_and_that_of_the_first_word_does_not() -> None:
    assert share("How do I use Polish?", "how do I use Polish?") == 1.0
    assert share("How do I use Polish?", "How do I use polish?") == 0.0


def test_words_may_be_added_to_one_side_but_not_exchanged() -> None:
    assert share("How do I delete my account?", "How do I delete my old account?") == 0.0  # a mark
    assert share("How do I delete my account?", "How do I delete my bank account quickly?") == 0.5
    assert share("How do I delete my account?", "How do I delete my profile?") == 0.0


def test_words_and_marks_keep_their_order_among_each_other() -> None:
    assert share("Can I sue you?", "Can you sue me?") == 0.0
    assert share("How do I add a user to a group?", "How do I add a group to a user?") == 0.0


def test_courtesies_and_punctuation_are_nothing() -> None:
    assert share("Hi! Could you please tell me what the refund limit is? Thanks", "What is the refund limit") == 1.0


@pytest.mark.parametrize("text", ["", "  ", "?!", "please", "x" * (LONGEST + 1)])
def test_what_says_nothing_or_too_much_is_like_nothing(text: str) -> None:
    assert likeness(text, "s") is None


def test_nothing_of_the_text_is_kept_and_other_gateways_make_other_digests() -> None:
    text = "Where does Ada Lovelace keep the pencils?"
    found = of(text)
    assert not any(word.encode() in b"".join((found.marks, *found.parts)) for word in text.split() if len(word) > 3)
    other = of(text, "another")
    assert found.marks != other.marks
    assert not set(found.parts) & set(other.parts)
