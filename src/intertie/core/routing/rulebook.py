"""The rules of an organisation as calls meet them: what does not change from call to call is worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from intertie.core.ledger import CallFacts
from intertie.core.routing.rules import Rule, passes, restriction, stands

_REMEMBERED: Final = 20_000
"""Kinds of calls whose rules are kept sorted, and rulings that are kept."""


class Ruling(NamedTuple):
    """The rules that apply to a call, in order, and what follows from them."""

    rules: tuple[Rule, ...] = ()
    restriction: str = ""
    """See `rules.restriction`."""


def ruled(rules: Sequence[Rule]) -> Ruling:
    """The ruling of these rules."""
    return Ruling(tuple(rules), restriction(rules))


_UNRULED: Final = Ruling()


class RuleBook:
    """Rules in their order, and what they ask of calls."""

    __slots__ = ("_rulings", "_standing", "content", "headers", "rules")

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = rules
        self.headers = tuple(sorted({name for rule in rules for name in rule.when.header}))
        """Names of headers that some rule asks for."""
        self.content = frozenset(name for rule in rules for name in rule.when.content)
        """Classes of content that some rule asks for."""
        self._standing: dict[tuple[str, ...], tuple[tuple[int, Rule], ...]] = {}
        self._rulings: dict[tuple[int, ...], Ruling] = {}

    def __repr__(self) -> str:
        return f"<RuleBook {len(self.rules)} rules>"

    def applying(self, call: CallFacts) -> Ruling:
        """The rules whose conditions this call meets: the same as `rules.applying`."""
        kind = (call.key, call.project, call.member, call.model, call.operation)
        standing = self._standing.get(kind)
        if standing is None:
            _make_room(self._standing)
            found = (one for one in enumerate(self.rules) if stands(one[1].when, call))
            standing = self._standing[kind] = tuple(found)
        if not standing:
            return _UNRULED
        places = tuple([place for place, rule in standing if passes(rule.when, call)])
        ruling = self._rulings.get(places)
        if ruling is None:
            _make_room(self._rulings)
            ruling = self._rulings[places] = ruled([self.rules[place] for place in places])
        return ruling


def _make_room(remembered: dict[Any, Any]) -> None:
    if len(remembered) >= _REMEMBERED:
        remembered.clear()


class RuleBooks:
    """Those of all organisations, each made anew when its rules are others."""

    __slots__ = ("_books",)

    def __init__(self) -> None:
        self._books: dict[str, RuleBook] = {}

    def __repr__(self) -> str:
        return f"<RuleBooks {len(self._books)}>"

    def of(self, organisation: str, rules: Sequence[Rule]) -> RuleBook:
        """The book of these very rules."""
        book = self._books.get(organisation)
        if book is None or book.rules is not rules:
            book = self._books[organisation] = RuleBook(rules)
        return book
