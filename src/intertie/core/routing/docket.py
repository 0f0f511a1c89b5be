"""What planning is given of one call beyond its envelope, and what it writes down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from intertie.core.ledger import CallFacts, Considered
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.rules import Rule
from intertie.core.routing.traffic import Held

MOST: Final = 24
"""Targets written down, at most: a route may have a hundred, and books keep every plan."""
LONGEST: Final = 160
"""Characters of a reason."""


class Docket:
    """One call's rules and what was decided about each of its targets. Filled by `plan`, also when that fails."""

    __slots__ = ("_out", "_placed", "conversation", "exploring", "facts", "held", "noting", "rules")

    def __init__(
        self,
        facts: CallFacts,
        rules: Sequence[Rule] = (),
        *,
        conversation: bytes | None = None,
        held: Held | None = None,
        exploring: bool = True,
        noting: bool = True,
    ) -> None:
        self.facts = facts
        self.rules = rules
        """Those that apply to this call, in order."""
        self.conversation = conversation
        """What its calls have in common, on a sticky route."""
        self.held = held
        """Who has its conversation."""
        self.exploring = exploring
        self.noting = noting
        """Whether anybody will read what is written down."""
        self._placed: list[Considered] = []
        self._out: list[Considered] = []

    @property
    def considered(self) -> tuple[Considered, ...]:
        """Every target, in the order of asking, then those that are not asked."""
        return tuple((self._placed + self._out)[:MOST])

    def out(self, one: Candidate, why: str) -> None:
        """A target is not asked, whatever rules say."""
        if self.noting:
            self._out.append(
                Considered(one.upstream.name, one.target.model, why[:LONGEST], allowed=False, latency=one.latency)
            )

    def unknown(self, upstream: str, model: str, why: str) -> None:
        """A target names no upstream that could be asked."""
        if self.noting:
            self._out.append(Considered(upstream, model, why, allowed=False))

    def ruled_out(self, ones: Sequence[Candidate], base: Sequence[Candidate]) -> None:
        """Rules alone keep these out; each is given the place it would have in `base`."""
        for number, one in enumerate(ones):
            place = sum(other.turn() <= one.turn() for other in base) - 0.5 + number / 1000
            self._out.append(row(one, place, allowed=False))

    def place(self, order: Iterable[Candidate], base: Sequence[Candidate]) -> None:
        """This is the plan; `base` is the order it had before rules and setbacks."""
        places = {one.key: place for place, one in enumerate(base)}
        for number, one in enumerate(order):
            self._placed.append(row(one, places.get(one.key, len(places) + number), allowed=True))

    def lone(self, one: Considered) -> None:
        """This target alone is the plan."""
        if self.noting:
            self._placed.append(one)


def row(one: Candidate, base: float, *, allowed: bool) -> Considered:
    """How a target is written down that has the place `base` before rules and setbacks."""
    return Considered(
        upstream=one.upstream.name,
        model=one.target.model,
        why=(f"{one.rule}; {one.why}" if one.rule and one.why else one.rule or one.why)[:LONGEST],
        score=one.score,
        allowed=allowed,
        base=base,
        setback=one.setback,
        latency=one.latency,
    )
