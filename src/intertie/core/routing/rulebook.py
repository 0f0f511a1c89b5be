"""The rules of an organisation as calls meet them: what does not change from call to call is worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from intertie.core.routing.rules import Rule, passes, stands
from intertie.core.terms import CallFacts

_REMEMBERED: Final = 20_000
"""Kinds of calls whose rules are kept sorted."""


class RuleBook:
    """Rules in their order, and what they ask of calls."""

    __slots__ = ("_standing", "content", "headers", "rules")

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = rules
        self.headers = tuple(sorted({name for rule in rules for name in rule.when.header}))
        """Names of headers that some rule asks for."""
        self.content = frozenset(name for rule in rules for name in rule.when.content)
        """Classes of content that some rule asks for."""
        self._standing: dict[tuple[str, ...], tuple[Rule, ...]] = {}

    def __repr__(self) -> str:
        return f"<RuleBook {len(self.rules)} rules>"

    def applying(self, call: CallFacts) -> tuple[Rule, ...]:
        """The rules whose conditions this call meets, in order; the same as `rules.applying`."""
        kind = (call.key, call.project, call.member, call.model, call.operation)
        found = self._standing.get(kind)
        if found is None:
            if len(self._standing) >= _REMEMBERED:
                self._standing.clear()
            found = self._standing[kind] = tuple(rule for rule in self.rules if stands(rule.when, call))
        return tuple([rule for rule in found if passes(rule.when, call)]) if found else ()


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
