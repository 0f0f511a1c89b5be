"""A book of rules finds what asking each rule finds, and asks again when the rules are others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from intertie.core.ledger import CallFacts
from intertie.core.routing.rulebook import RuleBook, RuleBooks, ruled
from intertie.core.routing.rules import Rule, When, Wish, applying
from intertie.core.terms import Operation, Trust

_WORDS = ("a", "b")
_some = st.lists(st.sampled_from(_WORDS), max_size=2).map(tuple)
whens = st.builds(
    When,
    key=_some,
    project=_some,
    member=_some,
    tag=_some,
    model=st.lists(st.sampled_from(["a", "b*", "?"]), max_size=2).map(tuple),
    operation=st.lists(st.sampled_from(Operation), max_size=1).map(tuple),
    header=st.dictionaries(st.just("x-team"), st.sampled_from(_WORDS), max_size=1),
    larger_than=st.none() | st.integers(0, 3),
    content=st.lists(st.sampled_from(["card", "iban"]), max_size=1).map(tuple),
)
calls = st.builds(
    CallFacts,
    key=st.sampled_from(_WORDS),
    project=st.sampled_from(_WORDS),
    member=st.sampled_from(("", *_WORDS)),
    model=st.sampled_from(["a", "bb"]),
    operation=st.sampled_from(Operation),
    tags=st.frozensets(st.sampled_from(_WORDS)),
    headers=st.dictionaries(st.just("x-team"), st.sampled_from(_WORDS), max_size=1),
    tokens=st.integers(0, 4),
    content=st.frozensets(st.sampled_from(["card", "iban"])),
)


@given(st.lists(whens, max_size=4), st.lists(calls, min_size=1, max_size=6))
def test_a_book_finds_what_asking_each_rule_finds(conditions: list[When], asked: list[CallFacts]) -> None:
    rules = tuple(Rule(f"r{n}", when, require=Wish(trust=Trust.OWN)) for n, when in enumerate(conditions))
    book = RuleBook(rules)
    for call in [*asked, *asked]:
        assert book.applying(call) == ruled(applying(rules, call))


def test_it_knows_what_its_rules_ask_of_calls() -> None:
    book = RuleBook(
        [Rule("r", When(header={"x-b": "1", "x-a": "*"}, content=("card",))), Rule("s", When(content=("iban",)))]
    )
    assert book.headers == ("x-a", "x-b")
    assert book.content == {"card", "iban"}
    assert not RuleBook().headers
    assert not RuleBook().content


def test_a_book_is_made_anew_for_other_rules_and_each_organisation_has_its_own() -> None:
    books, first, second = RuleBooks(), (Rule("r"),), (Rule("r"),)
    book = books.of("one", first)
    assert books.of("one", first) is book
    assert books.of("two", second) is not book
    assert books.of("one", second).rules is second
