"""Where no equal call has an answer: the answer to a question that is like this one, on routes that allow it.

Whom an answer may be shared with is settled first, by place and not by likeness: see `policy.answers.similar_key`. Then
what must be literally the same, then what the words have in common (`policy.likeness`), and only what is left is
compared by vector. A vector is made for a call only if there is something to compare it with, and for its answer once
that is on its way to the client. Whatever fails here is a plain miss.
"""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec.structs import replace

from intertie.core.keeping import LOCAL
from intertie.core.policy.answers import Control, Kept, Space, may_give, similar_key
from intertie.core.policy.likeness import likeness
from intertie.core.routing.resolve import ANY
from intertie.core.wire.canonical import Ambiguous
from intertie.core.wire.question import question
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.flights import Lead, Subject
from intertie.dataplane.neighbours import Neighbour, Vector, nearest
from intertie.dataplane.parts import Dataplane

PATIENCE: Final = 1.0
"""Seconds that a request waits for its vector; then it is a miss. What comes later serves those who come later."""


async def found(x: Exchange, lead: Lead, asked: Control, d: Dataplane) -> Kept | None:
    """The answer to the question most like this one, with its similarity; `None` if none is like enough."""
    assert x.route is not None
    assert d.answers is not None
    answers, policy = d.answers, x.route.cache
    if policy is None or policy.similar is None or answers.embedder is None or not asked.similar:
        return None
    lead.subject = subject = _subject(x, d)
    if subject is None:
        return None
    alike = answers.neighbours.alike(subject.place, subject.likeness, policy.similar.words)
    vector = await _vector(x, subject, d, PATIENCE) if alike else None
    if vector is None:
        return None
    for similarity, one in nearest(vector, alike):
        if similarity < policy.similar.threshold:
            break
        kept = await answers.store.get(one.key)
        if kept is None or d.wall() >= kept.expires_at:
            answers.neighbours.drop(subject.place, one.key)
            continue
        kept = replace(kept, similarity=similarity)
        if may_give(kept, policy, asked, d.wall()):
            x.cache_key = one.key.hex()
            return kept
    return None


def remember(x: Exchange, lead: Lead, d: Dataplane) -> None:
    """The answer that `lead` bought is kept: questions like its own may find it once there is a vector."""
    assert x.route is not None
    assert d.answers is not None
    policy = x.route.cache
    if policy is None or policy.similar is None or d.answers.embedder is None or lead.space is not Space.CACHE:
        return
    subject = lead.subject or _subject(x, d)
    if subject is not None:
        d.answers.background(_remembered(x, lead, subject, d))


async def _remembered(x: Exchange, lead: Lead, subject: Subject, d: Dataplane) -> None:
    assert x.route is not None
    answers = d.answers
    assert answers is not None
    vector = await _vector(x, subject, d)
    if vector is not None and lead.clearings == answers.store.clearings:
        whose = (x.route.organisation, x.route.model)
        answers.neighbours.add(subject.place, whose, Neighbour(lead.key, subject.likeness, vector))


def _subject(x: Exchange, d: Dataplane) -> Subject | None:
    """What this call is compared by; `None` for one that has no like."""
    assert x.call is not None
    assert x.caller is not None
    assert x.route is not None
    answers, policy = d.answers, x.route.cache
    assert answers is not None
    assert policy is not None
    assert policy.similar is not None
    asks = question(x.call)
    traits = likeness(asks.text, answers.salt) if asks is not None else None
    maker = _maker(x, policy.similar.embeddings, d)
    if asks is None or traits is None or maker is None:
        return None
    placing = (answers.placing(x.route, x.snapshot), maker)
    try:
        place = similar_key(asks, x.caller, x.route, salt=answers.salt, restriction=x.restriction, placing=placing)
    except Ambiguous:
        return None
    return Subject(asks.text, place + traits.marks, traits)


def _maker(x: Exchange, model: str, d: Dataplane) -> str | None:
    """Who makes vectors, so that those of different models never meet; `None` if there is no such route."""
    if model == LOCAL:
        return LOCAL
    assert d.answers is not None
    assert x.route is not None
    routes, organisation = x.snapshot.routes, x.route.organisation
    route = routes.get((organisation, model)) or routes.get((organisation, ANY))
    return None if route is None else f"{model}/{d.answers.placing(route, x.snapshot)}"


async def _vector(x: Exchange, subject: Subject, d: Dataplane, seconds: float | None = None) -> Vector | None:
    """Wait so long for the subject's vector. It is made once, and goes on being made when nobody waits any more."""
    assert x.route is not None
    assert x.route.cache is not None
    assert x.route.cache.similar is not None
    answers = d.answers
    assert answers is not None
    assert answers.embedder is not None
    if subject.making is None:
        making = answers.embedder.vector(x, subject.text, x.route.cache.similar.embeddings)
        subject.making = answers.background(making)
    done, _ = await asyncio.wait((subject.making,), timeout=seconds)
    return subject.making.result() if done else None
