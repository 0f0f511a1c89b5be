"""From a call with its facts to the answer of whoever the plan says; and elsewhere, where a rejection allows it."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from intertie.core.errors import GatewayError, UpstreamRejected
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.docket import Docket
from intertie.core.routing.plan import plan
from intertie.core.routing.resolve import resolve
from intertie.core.routing.rules import Rule, applying
from intertie.core.terms import Considered
from intertie.dataplane.exchange import Exchange
from intertie.dataplane.failover import answer
from intertie.dataplane.parts import Dataplane
from intertie.dataplane.reply import Reply

CODES: Final = {
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "context_length_exceeded": "context_length_exceeded",
}
"""What upstreams call a rejection -> what a route's `fallback` calls it."""
_STAGE: Final = 8
"""Added to the setbacks of a fallback's targets: they come behind every target of the route itself."""


async def placed(x: Exchange, reply: Reply, d: Dataplane) -> bytes:
    """The last bytes of an answer, by the route's targets or, if they reject the call, its fallback's.

    Raises what the client is to see: of several rejections the first, which is about what was asked for.
    """
    assert x.call is not None
    assert x.caller is not None
    assert x.route is not None
    docket = x.docket
    try:
        candidates = plan(x.call, x.caller, x.route, x.snapshot, d, d.monotonic(), docket)
    finally:
        if docket is not None and docket.noting:
            x.plan = docket.considered
    try:
        return await answer(x, candidates, reply, d)
    except UpstreamRejected as error:
        models = x.route.fallback.get(CODES.get(error.code, ""), ())
        for stage, model in enumerate(models, start=1):
            if (others := _elsewhere(x, model, stage, d)) is None:
                continue
            try:
                return await answer(x, others, reply, d)
            except UpstreamRejected:
                continue
            except GatewayError:
                if x.committed:
                    raise
        raise


def _elsewhere(x: Exchange, model: str, stage: int, d: Dataplane) -> tuple[Candidate, ...] | None:
    """The targets of a fallback, under the rules for what was asked and those for what is asked now.

    `None` if it cannot take the call, or the key may not use it: a fallback is no way around a key's list of models.
    """
    assert x.call is not None
    assert x.caller is not None
    call = replace(x.call, model=model)
    docket = None
    try:
        route = resolve(call, x.caller, x.snapshot)
        if x.facts is not None:
            docket = Docket(x.facts, _both(x, model))
        return plan(call, x.caller, route, x.snapshot, d, d.monotonic(), docket)
    except GatewayError:
        return None
    finally:
        if docket is not None:
            x.plan += tuple(_behind(one, stage) for one in docket.considered)


def _both(x: Exchange, model: str) -> tuple[Rule, ...]:
    """The rules for the model that was asked for, and those for the one that is to answer, in their order."""
    assert x.facts is not None
    assert x.caller is not None
    rules: tuple[Rule, ...] = x.snapshot.rules.get(x.caller.organisation, ())
    found = (*applying(rules, x.facts), *applying(rules, replace(x.facts, model=model)))
    return tuple(rule for rule in rules if rule in found)


def _behind(one: Considered, stage: int) -> Considered:
    """What rules keep out of it stays out of a replay: the rules for its own model are not in the record."""
    base = one.base if one.allowed else None
    return replace(one, base=base, setback=one.setback + _STAGE * stage, why=f"fallback; {one.why}")
