"""Projections of an exchange into the books: what is written before an attempt, after it, and at the end."""

from __future__ import annotations

from intertie.core.errors import GatewayError
from intertie.core.ledger import AttemptRecord, Opening, Settlement, State
from intertie.core.pricing import cost
from intertie.core.terms import NODE, Upstream, Usage
from intertie.core.wire.openai_usage import estimate_input
from intertie.dataplane.exchange import Attempt, Exchange

_NOTHING = Usage()


def opening(x: Exchange, attempt: Attempt) -> Opening:
    """The record that must exist before the attempt's first upstream byte."""
    assert x.caller is not None
    assert x.call is not None
    assert x.route is not None
    target = attempt.candidate.target
    upstream = attempt.candidate.upstream
    return Opening(
        request_id=x.id,
        n=attempt.n,
        organisation=x.caller.organisation,
        project=x.caller.project,
        key_id=x.caller.key_id,
        key_name=x.caller.key_name,
        member=x.caller.member,
        route=x.route.model,
        operation=x.operation,
        stream=x.call.stream,
        upstream=upstream.name,
        model=target.model,
        credential=attempt.credential.id if attempt.credential else "",
        started_at=attempt.started_at,
        input_estimate=x.facts.tokens if x.facts is not None else estimate_input(x.call.fields),
        price=upstream.models.get(target.model),
        node=_node(upstream),
        hedge=attempt.hedge,
        shadow_of=x.shadow_of,
        asked_at=x.started_at,
    )


def close_attempt(
    x: Exchange, attempt: Attempt, state: State, now: float, error: GatewayError | None = None
) -> AttemptRecord:
    """The attempt's record, added to the exchange. `now` is monotonic seconds."""
    usage = attempt.usage or _NOTHING
    upstream = attempt.candidate.upstream
    price = upstream.models.get(attempt.candidate.target.model)
    spent = cost(usage, price) if usage.input or usage.output else 0
    if state is not State.BEATEN:
        x.cost = None if x.cost is None or spent is None else x.cost + spent
    record = AttemptRecord(
        n=attempt.n,
        upstream=upstream.name,
        model=attempt.candidate.target.model,
        credential=attempt.credential.id if attempt.credential else "",
        state=state,
        started_at=attempt.started_at,
        duration_ms=round((now - attempt.started) * 1000),
        status=attempt.status,
        error=error.code if error else "",
        usage=usage,
        cost=spent,
        ttft_ms=None if attempt.ttft is None else round(attempt.ttft * 1000),
        node=_node(upstream),
    )
    x.attempts.append(record)
    return record


def settlement(x: Exchange, now: float) -> Settlement | None:
    """The final account, or `None` for a request that was refused before it had a route."""
    if x.caller is None or x.call is None or x.route is None:
        return None
    return Settlement(
        request_id=x.id,
        organisation=x.caller.organisation,
        project=x.caller.project,
        key_id=x.caller.key_id,
        key_name=x.caller.key_name,
        member=x.caller.member,
        route=x.route.model,
        operation=x.operation,
        stream=x.call.stream,
        state=x.state,
        status=x.status,
        started_at=x.started_at,
        duration_ms=round((now - x.started) * 1000),
        attempts=tuple(x.attempts),
        error=x.error.code if x.error else "",
        ttft_ms=None if x.ttft is None else round(x.ttft * 1000),
        overhead_ms=round(max(0.0, now - x.started - x.upstream_seconds) * 1000, 3),
        cache=x.cache,
        plan=x.plan,
        facts=x.facts if x.plan or _tells(x) else None,
        saved=None if x.replayed is None else x.replayed.cost,
        shadow_of=x.shadow_of,
    )


def _tells(x: Exchange) -> bool:
    """Whether the facts have what rules may ask and the row of the request does not tell."""
    facts = x.facts
    if facts is None:
        return False
    asked = x.route is not None and facts.model != x.route.model
    return asked or bool(facts.tags or facts.needs or facts.headers or facts.content)


def _node(upstream: Upstream) -> str:
    """The name of the machine, where the upstream is one."""
    return upstream.name if upstream.provider == NODE else ""
