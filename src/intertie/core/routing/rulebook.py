"""The rules of an organisation as calls meet them: what does not change from call to call is worked out once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from intertie.core.ledger import CallFacts
from intertie.core.routing.rules import Rule, When, asks_nothing, passes, restriction, stands

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
        self._standing: dict[tuple[str, ...], _Standing] = {}
        self._rulings: dict[int, Ruling] = {}

    def __repr__(self) -> str:
        return f"<RuleBook {len(self.rules)} rules>"

    def applying(self, call: CallFacts) -> Ruling:
        """The rules whose conditions this call meets: the same as `rules.applying`."""
        kind = (call.key, call.project, call.member, call.model, call.operation)
        standing = self._standing.get(kind)
        if standing is None:
            _make_room(self._standing)
            found = (one for one in enumerate(self.rules) if stands(one[1].when, call))
            standing = self._standing[kind] = _sorted(found)
        which, asked = standing.always, standing.others
        if call.tags:
            asked += standing.tagged
        if call.content:
            asked += standing.classed
        if call.tokens > standing.larger:
            asked += standing.sized
        for bit, when in asked:
            which |= bit if passes(when, call) else 0
        if not which:
            return _UNRULED
        ruling = self._rulings.get(which)
        if ruling is None:
            _make_room(self._rulings)
            ruling = self._rulings[which] = ruled([rule for place, rule in enumerate(self.rules) if which >> place & 1])
        return ruling


_Asking = tuple[int, When]


class _Standing(NamedTuple):
    """The rules for all calls of one kind: each a bit at its place, and its conditions; by what they ask of a call."""

    always: int
    """Nothing, so these apply."""
    tagged: tuple[_Asking, ...]
    """A tag, among others: a call without tags need not be asked."""
    classed: tuple[_Asking, ...]
    """A class of content; so for these."""
    sized: tuple[_Asking, ...]
    """That a call be larger than `larger` or more."""
    larger: float
    others: tuple[_Asking, ...]


def _sorted(rules: Iterable[tuple[int, Rule]]) -> _Standing:
    always = 0
    tagged: list[_Asking] = []
    classed: list[_Asking] = []
    sized: list[_Asking] = []
    others: list[_Asking] = []
    for place, rule in rules:
        when, bit = rule.when, 1 << place
        if asks_nothing(when):
            always |= bit
        else:
            many = when.larger_than is not None
            (tagged if when.tag else classed if when.content else sized if many else others).append((bit, when))
    larger = min((when.larger_than for _, when in sized if when.larger_than is not None), default=math.inf)
    return _Standing(always, tuple(tagged), tuple(classed), tuple(sized), larger, tuple(others))


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
