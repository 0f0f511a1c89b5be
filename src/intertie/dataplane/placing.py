"""From a call with its facts to the answer of whoever the plan says; and elsewhere, where a rejection allows it."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from intertie.core.errors import GatewayError, UpstreamRejected
from intertie.core.ledger import Considered
from intertie.core.routing.candidate import Candidate
from intertie.core.routing.docket import Docket
from intertie.core.routing.plan import plan
from intertie.core.routing.resolve import resolve
from intertie.core.routing.rules import applying_to_either
from intertie.dataplane.choosing import MOST_ATTEMPTS
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
            if x.tries >= MOST_ATTEMPTS:
                break
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
            rules = x.snapshot.rules.get(x.caller.organisation, ())
            docket = Docket(x.facts, applying_to_either(rules, x.facts, model))
        return plan(call, x.caller, route, x.snapshot, d, d.monotonic(), docket)
    except GatewayError:
        return None
    finally:
        if docket is not None:
            x.plan += tuple(_behind(one, model, stage) for one in docket.considered)


def _behind(one: Considered, model: str, stage: int) -> Considered:
    return replace(one, setback=one.setback + _STAGE * stage, why=f"fallback; {one.why}", via=model)
