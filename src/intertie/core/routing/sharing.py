"""How nodes that are as good as each other share the work."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from random import Random
from typing import Final

from intertie.core.routing.candidate import Candidate

CHANCE: Final = 0.2
"""A node counts as up to this part better or worse than it is, anew for each call: calls planned at the same moment,
before any of them has taken a slot, go to different nodes."""

_Class = tuple[int, str, int]
"""(tier, model, weight): what makes targets equal."""


def shared(order: Sequence[Candidate], rng: Random) -> Sequence[Candidate]:
    """The same targets, with the places of equal nodes given out anew among them.

    Equal are nodes of one tier with the same model and weight: an operator who wants an order among machines gives them
    tiers, and different shares are weights, which stay as the strategy drew them. Places of other targets, upstreams
    that are not nodes among them, do not move. Among equals:

    - those with a free slot before those without,
    - those that have the model loaded before those that would have to load it,
    - then by spare speed, the free share of the slots times the measured tokens per second: for each place two are
      drawn by chance and the better one gets it (the power of two choices), with `CHANCE` between close ones. A speed
      nobody measured counts as the average of the others, and slowness seen from here (`pace`) counts against it.
    """
    classes: dict[_Class, list[int]] = {}
    for place, candidate in enumerate(order):
        if candidate.room is not None:
            target = candidate.target
            classes.setdefault((target.tier, target.model, target.weight), []).append(place)
    crowded = [places for places in classes.values() if len(places) > 1]
    if not crowded:
        return order
    result = list(order)
    for places in crowded:
        for place, candidate in zip(places, _ranked([order[place] for place in places], rng), strict=True):
            result[place] = candidate
    return result


def evened(order: Sequence[Candidate], rng: Random) -> Sequence[Candidate]:
    """An order by score, with the nodes of equal score shared among themselves."""
    runs = (list(run) for _, run in groupby(order, key=Candidate.turn))
    return [one for run in runs for one in (shared(run, rng) if len(run) > 1 else run)]


def _ranked(equals: Sequence[Candidate], rng: Random) -> list[Candidate]:
    """Nodes, the one to ask first in front."""
    known = [one.room.decode for one in equals if one.room is not None and one.room.decode]
    usual = sum(known) / len(known) if known else 1.0
    groups: dict[tuple[bool, bool], list[tuple[float, Candidate]]] = {}
    for one in equals:
        room = one.room
        assert room is not None
        spare = (1.0 - room.load) * (room.decode or usual) * one.pace
        chance = rng.uniform(1.0 - CHANCE, 1.0 + CHANCE)
        groups.setdefault((room.full, not room.warm), []).append((spare * chance, one))
    ranked: list[Candidate] = []
    for group in sorted(groups):
        left = groups[group]
        while left:
            drawn = rng.sample(range(len(left)), min(2, len(left)))
            best = max(drawn, key=lambda at: left[at][0])
            ranked.append(left.pop(best)[1])
    return ranked
